// @platformatic/kafka, told what to do by lines of JSON (see clients/driver.py).

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { Admin, ConfigResourceTypes, Consumer, FetchIsolationLevels, ProduceAcks, Producer } from '@platformatic/kafka'

const RETRY_MS = 200
const SET = 0
const common = patience => ({
  bootstrapBrokers: process.argv[2].split(','),
  clientId: 'driver',
  retries: Math.ceil(patience / RETRY_MS),
  retryDelay: RETRY_MS
})
const admin = new Admin(common(3_000))
const text = data => (data == null ? null : data.toString('base64'))
const data = text => (text === null ? undefined : Buffer.from(text, 'base64'))

class Writer {
  constructor (words) {
    const acks = { 0: ProduceAcks.NO_RESPONSE, 1: ProduceAcks.LEADER, all: ProduceAcks.ALL }[words.acks]
    this.producer = new Producer({
      ...common(words.patience_ms),
      acks,
      idempotent: words.idempotent || words.transactional_id !== null,
      ...(words.compression !== 'none' && { compression: words.compression }),
      ...(words.transactional_id && { transactionalId: words.transactional_id })
    })
  }

  async begin () {
    this.transaction = await this.producer.beginTransaction()
  }

  async send ({ topic, records }) {
    const messages = records.map(one => ({
      topic,
      key: data(one.key),
      value: data(one.value),
      headers: new Map(one.headers.map(([name, value]) => [Buffer.from(name), data(value)])),
      ...(one.partition !== null && { partition: one.partition }),
      ...(one.timestamp !== null && { timestamp: BigInt(one.timestamp) })
    }))
    await (this.transaction ?? this.producer).send({ messages })
    return []
  }

  async end (how) {
    const transaction = this.transaction
    this.transaction = undefined
    await transaction[how]()
  }

  close () {
    return this.producer.close(true)
  }
}

class Reader {
  rows = []

  // It reads in groups alone: without one, it is the only member of a group of its own.
  constructor (words) {
    this.words = words
    this.consumer = new Consumer({
      ...common(30_000),
      groupId: words.group ?? `alone-${process.pid}-${words.id}`,
      autocommit: false,
      maxWaitTime: 100,
      isolationLevel: FetchIsolationLevels[words.isolation.toUpperCase()],
      groupProtocol: words.protocol,
      ...(words.instance && { groupInstanceId: words.instance }),
      ...(words.protocol === 'classic' && {
        sessionTimeout: words.session_ms, heartbeatInterval: 200, rebalanceTimeout: 10_000
      })
    })
  }

  async start () {
    const { topic, start, group } = this.words
    const place = typeof start === 'number'
      ? { mode: 'manual', offsets: await this.since(topic, start) }
      : { mode: group ? 'committed' : start, fallbackMode: start }
    this.stream = await this.consumer.consume({ topics: [topic], ...place })
    this.stream.on('error', error => console.error(error))
    this.stream.on('data', one => this.rows.push([
      one.partition, Number(one.offset), Number(one.timestamp), text(one.key), text(one.value),
      [...one.headers].map(([name, value]) => [name.toString(), text(value)])
    ]))
  }

  async since (topic, time) {
    const ends = (await this.consumer.listOffsets({ topics: [topic], timestamp: -1n })).get(topic)
    const found = (await this.consumer.listOffsets({ topics: [topic], timestamp: BigInt(time) })).get(topic)
    return found.map((offset, partition) => ({ topic, partition, offset: offset < 0n ? ends[partition] : offset }))
  }

  async poll ({ wait_ms: wait }) {
    const end = Date.now() + wait
    while (!this.rows.length && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 5))
    return this.rows.splice(0)
  }

  owned () {
    return (this.consumer.assignments ?? []).flatMap(one => one.topic === this.words.topic ? one.partitions : [])
  }

  commit (offsets) {
    const { topic } = this.words
    return this.consumer.commit({
      offsets: offsets.map(([partition, offset]) => ({ topic, partition, offset: BigInt(offset), leaderEpoch: -1 }))
    })
  }

  async committed () {
    const { topic } = this.words
    const found = await this.consumer.listCommittedOffsets({ topics: [{ topic, partitions: this.owned() }] })
    return [...found.get(topic).entries()].map(([partition, offset]) => [partition, Number(offset)])
      .filter(([, offset]) => offset >= 0)
  }

  async close () {
    await this.stream.close()
    await this.consumer.close(true)
  }
}

const handles = new Map()
const topicConfig = name => ({ resourceType: ConfigResourceTypes.TOPIC, resourceName: name })
const commands = {
  producer: words => { handles.set(words.id, new Writer(words)) },
  send: words => handles.get(words.id).send(words),
  begin: words => handles.get(words.id).begin(),
  commit_transaction: words => handles.get(words.id).end('commit'),
  abort_transaction: words => handles.get(words.id).end('abort'),
  consumer: async words => {
    const made = new Reader(words)
    handles.set(words.id, made)
    await made.start()
  },
  poll: words => handles.get(words.id).poll(words),
  owned: words => handles.get(words.id).owned(),
  commit: ({ id, offsets }) => handles.get(id).commit(offsets),
  committed: ({ id }) => handles.get(id).committed(),
  close: ({ id }) => handles.get(id).close(),
  create_topic: async ({ topic, partitions, replicas, settings }) => {
    const configs = Object.entries(settings).map(([name, value]) => ({ name, value }))
    await admin.createTopics({ topics: [topic], partitions, replicas, configs })
  },
  delete_topic: ({ topic }) => admin.deleteTopics({ topics: [topic] }),
  topics: () => admin.listTopics(),
  partitions_of: async ({ topic }) => (await admin.metadata({ topics: [topic], forceUpdate: true })).topics.get(topic).partitionsCount,
  add_partitions: ({ topic, total }) => admin.createPartitions({ topics: [{ name: topic, count: total }] }),
  change_settings: ({ topic, settings }) => admin.incrementalAlterConfigs({
    resources: [{
      ...topicConfig(topic),
      configs: Object.entries(settings).map(([name, value]) => ({ name, value, configOperation: SET }))
    }]
  }),
  settings_of: async ({ topic }) => {
    const [found] = await admin.describeConfigs({ resources: [topicConfig(topic)] })
    return Object.fromEntries(found.configs.map(one => [one.name, one.value]))
  },
  groups: async () => [...(await admin.listGroups()).keys()],
  delete_group: ({ group }) => admin.deleteGroups({ groups: [group] }),
  delete_records: async ({ topic, partition, before }) => {
    await admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition, offset: BigInt(before) }] }] })
  },
  offsets_of: async ({ topic }) => {
    const count = await commands.partitions_of({ topic })
    const ask = async timestamp => {
      const partitions = [...Array(count).keys()].map(partitionIndex => ({ partitionIndex, timestamp }))
      const [found] = await admin.listOffsets({ topics: [{ name: topic, partitions }] })
      return new Map(found.partitions.map(one => [one.partitionIndex, Number(one.offset)]))
    }
    const [begins, ends] = [await ask(-2n), await ask(-1n)]
    return [...begins].map(([partition, begin]) => [partition, begin, ends.get(partition)])
  }
}

function codeOf (error) {
  if (error?.apiCode > 0) return error.apiCode
  for (const inner of [...(error?.errors ?? []), error?.cause]) {
    const code = inner && codeOf(inner)
    if (code) return code
  }
  return null
}

for await (const line of createInterface({ input: process.stdin })) {
  const words = JSON.parse(line)
  let answer
  try {
    answer = { ok: (await commands[words.do](words)) ?? null }
  } catch (error) {
    answer = { error: String(error.stack ?? error), code: codeOf(error) }
  }
  if (!process.stdout.write(JSON.stringify(answer) + '\n')) await once(process.stdout, 'drain')
}
process.exit(0)
