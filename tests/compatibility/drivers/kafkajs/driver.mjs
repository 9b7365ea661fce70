// kafkajs, told what to do by lines of JSON (see clients/driver.py).

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import zstd from '@bokuweb/zstd-wasm'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4-napi'

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel } = kafkajs

await zstd.init()
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: data => lz4.decompressFrame(data)
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
  decompress: async data => Buffer.from(zstd.decompress(data))
})

const codecs = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }
const retry = patience => ({ initialRetryTime: 100, maxRetryTime: 500, retries: Math.ceil(patience / 500) })
const kafka = new Kafka({ brokers: process.argv[2].split(','), logLevel: logLevel.ERROR, retry: retry(30_000) })
const admin = kafka.admin({ retry: retry(3_000) })
await admin.connect()
const text = data => (data == null ? null : data.toString('base64'))
const data = text => (text === null ? null : Buffer.from(text, 'base64'))
const topicConfig = name => ({ type: ConfigResourceTypes.TOPIC, name })

class Producer {
  constructor (words) {
    this.settings = { acks: { 0: 0, 1: 1, all: -1 }[words.acks], compression: CompressionTypes[codecs[words.compression]] }
    this.producer = kafka.producer({
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner,
      idempotent: words.idempotent || words.transactional_id !== null,
      maxInFlightRequests: 1,
      retry: retry(words.patience_ms),
      ...(words.transactional_id && {
        transactionalId: words.transactional_id,
        transactionTimeout: words.transaction_timeout_ms
      })
    })
  }

  async begin () {
    this.transaction = await this.producer.transaction()
  }

  async send ({ topic, records }) {
    const messages = records.map(one => ({
      key: data(one.key),
      value: data(one.value),
      headers: Object.fromEntries(one.headers.map(([name, value]) => [name, data(value)])),
      ...(one.partition !== null && { partition: one.partition }),
      ...(one.timestamp !== null && { timestamp: String(one.timestamp) })
    }))
    await (this.transaction ?? this.producer).send({ topic, messages, ...this.settings })
    return []
  }

  async end (how) {
    const transaction = this.transaction
    this.transaction = undefined
    await transaction[how]()
  }

  sendOffsets ({ group, topic, offsets }) {
    const partitions = offsets.map(([partition, offset]) => ({ partition, offset: String(offset) }))
    return this.transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic, partitions }] })
  }

  close () {
    return this.producer.disconnect()
  }
}

class Consumer {
  rows = []
  owned = []

  // kafkajs reads in groups alone: without one, it is the only member of a group of its own.
  constructor (words) {
    this.words = words
    this.group = words.group ?? `alone-${process.pid}-${words.id}`
    this.consumer = kafka.consumer({
      groupId: this.group,
      sessionTimeout: words.session_ms,
      heartbeatInterval: 200,
      maxWaitTimeInMs: 100,
      readUncommitted: words.isolation === 'read_uncommitted'
    })
  }

  async start () {
    const { topic, start } = this.words
    this.consumer.on('consumer.group_join', event => { this.owned = event.payload.memberAssignment[topic] ?? [] })
    this.consumer.on('consumer.rebalancing', () => { this.owned = [] })
    await this.consumer.connect()
    await this.consumer.subscribe({ topic, fromBeginning: start !== 'latest' })
    const eachBatch = async ({ batch }) => {
      this.rows.push(...batch.messages.map(one => [
        batch.partition, Number(one.offset), Number(one.timestamp), text(one.key), text(one.value),
        Object.entries(one.headers).map(([name, value]) => [name, text(value)])
      ]))
    }
    await this.consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 3, eachBatch })
    if (typeof start === 'number') {
      for (const { partition, offset } of await admin.fetchTopicOffsetsByTimestamp(topic, start)) {
        this.consumer.seek({ topic, partition, offset })
      }
    }
  }

  async poll ({ wait_ms: wait }) {
    const end = Date.now() + wait
    while (!this.rows.length && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 5))
    return this.rows.splice(0)
  }

  at (partitions) {
    return [{ topic: this.words.topic, partitions }]
  }

  seek ({ partition, offset }) {
    this.consumer.seek({ topic: this.words.topic, partition, offset: String(offset) })
  }

  // While it joins anew, kafkajs says nothing of a commit that it leaves out.
  async commit (offsets) {
    const { topic } = this.words
    let isCommitted = false
    const forget = this.consumer.on('consumer.commit_offsets', () => { isCommitted = true })
    await this.consumer.commitOffsets(
      offsets.map(([partition, offset]) => ({ topic, partition, offset: String(offset) }))).finally(forget)
    if (!isCommitted) throw new Error('kafkajs was not running, and did not commit')
  }

  async committed () {
    const [found] = await admin.fetchOffsets({ groupId: this.group, topics: [this.words.topic] })
    return found.partitions.map(one => [one.partition, Number(one.offset)]).filter(([, offset]) => offset >= 0)
  }

  close () {
    return this.consumer.disconnect()
  }
}

const handles = new Map()
const entries = settings => Object.entries(settings).map(([name, value]) => ({ name, value }))
const commands = {
  producer: async words => {
    const made = new Producer(words)
    await made.producer.connect()
    handles.set(words.id, made)
  },
  send: words => handles.get(words.id).send(words),
  begin: words => handles.get(words.id).begin(),
  commit_transaction: words => handles.get(words.id).end('commit'),
  abort_transaction: words => handles.get(words.id).end('abort'),
  send_offsets: words => handles.get(words.id).sendOffsets(words),
  consumer: async words => {
    const made = new Consumer(words)
    handles.set(words.id, made)
    await made.start()
  },
  poll: words => handles.get(words.id).poll(words),
  owned: words => handles.get(words.id).owned,
  seek: words => handles.get(words.id).seek(words),
  pause: ({ id, partitions }) => handles.get(id).consumer.pause(handles.get(id).at(partitions)),
  resume: ({ id, partitions }) => handles.get(id).consumer.resume(handles.get(id).at(partitions)),
  commit: ({ id, offsets }) => handles.get(id).commit(offsets),
  committed: ({ id }) => handles.get(id).committed(),
  close: ({ id }) => handles.get(id).close(),
  create_topic: async ({ topic, partitions, replicas, settings }) => {
    const wanted = { topic, numPartitions: partitions, replicationFactor: replicas, configEntries: entries(settings) }
    if (!await admin.createTopics({ topics: [wanted] })) throw Object.assign(new Error('it exists'), { code: 36 })
  },
  delete_topic: ({ topic }) => admin.deleteTopics({ topics: [topic] }),
  topics: () => admin.listTopics(),
  partitions_of: async ({ topic }) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length,
  add_partitions: ({ topic, total }) => admin.createPartitions({ topicPartitions: [{ topic, count: total }] }),
  change_settings: ({ topic, settings }) => admin.alterConfigs({
    validateOnly: false, resources: [{ ...topicConfig(topic), configEntries: entries(settings) }]
  }),
  settings_of: async ({ topic }) => {
    const { resources: [found] } = await admin.describeConfigs({ includeSynonyms: false, resources: [topicConfig(topic)] })
    return Object.fromEntries(found.configEntries.map(one => [one.configName, one.configValue]))
  },
  groups: async () => (await admin.listGroups()).groups.map(one => one.groupId),
  delete_group: ({ group }) => admin.deleteGroups([group]),
  delete_records: async ({ topic, partition, before }) => {
    await admin.fetchTopicOffsets(topic) // else it does not know the leader of a topic that it did not touch yet
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
  },
  offsets_of: async ({ topic }) => (await admin.fetchTopicOffsets(topic))
    .map(one => [one.partition, Number(one.low), Number(one.high)])
}

function refusal (error) {
  const inner = error.errors?.[0] ?? error.groups?.[0]?.error ?? error.partitions?.[0]?.error ?? error.cause
  if (inner && !(error.code > 0)) return refusal(inner)
  return { error: String(error.stack ?? error), code: typeof error.code === 'number' && error.code > 0 ? error.code : null }
}

for await (const line of createInterface({ input: process.stdin })) {
  const words = JSON.parse(line)
  let answer
  try {
    answer = { ok: (await commands[words.do](words)) ?? null }
  } catch (error) {
    answer = refusal(error)
  }
  if (!process.stdout.write(JSON.stringify(answer) + '\n')) await once(process.stdout, 'drain')
}
process.exit(0)
