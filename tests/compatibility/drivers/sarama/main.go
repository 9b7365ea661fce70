// sarama, told what to do by lines of JSON (see clients/driver.py).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

type header struct {
	name  string
	value []byte
}

func (h *header) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&h.name, &h.value})
}

type words struct {
	Do                   string
	ID                   int
	Topic                string
	Acks                 string
	Compression          string
	Idempotent           bool
	TransactionalID      *string `json:"transactional_id"`
	TransactionTimeoutMs int     `json:"transaction_timeout_ms"`
	MaxBytes             int     `json:"max_bytes"`
	Records              []struct {
		Key, Value []byte
		Partition  *int32
		Timestamp  *int64
		Headers    []header
	}
	Group      *string
	Start      any
	Isolation  string
	Assignor   string
	Instance   *string
	SessionMs  int `json:"session_ms"`
	WaitMs     int `json:"wait_ms"`
	Partition  int32
	Offset     int64
	Offsets    [][2]int64
	Partitions json.RawMessage
	Replicas   int16
	Settings   map[string]string
	Total      int32
	Before     int64
}

// chooser takes the partition that a record names, and else hashes its key.
type chooser struct{ sarama.Partitioner }

func (c chooser) Partition(message *sarama.ProducerMessage, n int32) (int32, error) {
	if partition, isNamed := message.Metadata.(int32); isNamed {
		return partition, nil
	}
	return c.Partitioner.Partition(message, n)
}

// reader collects what its goroutines receive: of each partition, or of what a group's session claims.
type reader struct {
	topic      string
	name       string
	consumer   sarama.Consumer
	partitions map[int32]sarama.PartitionConsumer
	group      sarama.ConsumerGroup
	stop       context.CancelFunc
	mutex      sync.Mutex
	session    sarama.ConsumerGroupSession
	rows       [][]any
}

func (r *reader) Setup(session sarama.ConsumerGroupSession) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.session = session
	return nil
}

func (r *reader) Cleanup(sarama.ConsumerGroupSession) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.session = nil
	return nil
}

func (r *reader) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	r.collect(claim.Messages())
	return nil
}

func (r *reader) collect(messages <-chan *sarama.ConsumerMessage) {
	for one := range messages {
		headers := [][]any{}
		for _, header := range one.Headers {
			headers = append(headers, []any{string(header.Key), header.Value})
		}
		row := []any{one.Partition, one.Offset, one.Timestamp.UnixMilli(), one.Key, one.Value, headers}
		r.mutex.Lock()
		r.rows = append(r.rows, row)
		r.mutex.Unlock()
	}
}

func (r *reader) read(partition int32, offset int64) error {
	if before := r.partitions[partition]; before != nil {
		if err := before.Close(); err != nil {
			return err
		}
	}
	made, err := r.consumer.ConsumePartition(r.topic, partition, offset)
	if err == nil {
		r.partitions[partition] = made
		go r.collect(made.Messages())
	}
	return err
}

func (r *reader) poll(wait time.Duration) [][]any {
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		r.mutex.Lock()
		rows := r.rows
		r.rows = [][]any{}
		r.mutex.Unlock()
		if len(rows) > 0 || time.Now().After(end) {
			return rows
		}
	}
}

func (r *reader) owned() []int32 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.session == nil {
		return []int32{}
	}
	return append([]int32{}, r.session.Claims()[r.topic]...)
}

func (r *reader) commit(offsets [][2]int64) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.session == nil {
		return sarama.ErrRebalanceInProgress
	}
	for _, one := range offsets {
		r.session.MarkOffset(r.topic, int32(one[0]), one[1], "")
	}
	r.session.Commit()
	return nil
}

func (r *reader) close() error {
	if r.group != nil {
		r.stop()
		return r.group.Close()
	}
	for _, one := range r.partitions {
		one.Close()
	}
	return r.consumer.Close()
}

type driver struct {
	bootstrap []string
	client    sarama.Client
	admin     sarama.ClusterAdmin
	producers map[int]sarama.SyncProducer
	readers   map[int]*reader
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.RefreshFrequency = 2 * time.Second
	return c
}

func main() {
	bootstrap := strings.Split(os.Args[1], ",")
	client, err := sarama.NewClient(bootstrap, config())
	if err != nil {
		panic(err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		panic(err)
	}
	d := &driver{bootstrap, client, admin, map[int]sarama.SyncProducer{}, map[int]*reader{}}
	commands := bufio.NewReader(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := commands.ReadBytes('\n')
		if err != nil {
			return
		}
		var w words
		if err := json.Unmarshal(line, &w); err != nil {
			panic(err)
		}
		result, err := d.obey(w)
		if err == nil {
			answers.Encode(map[string]any{"ok": result})
			continue
		}
		answers.Encode(map[string]any{"error": err.Error(), "code": codeOf(err)})
	}
}

func codeOf(err error) any {
	var several sarama.ProducerErrors
	if errors.As(err, &several) {
		err = several[0].Err
	}
	var refused sarama.KError
	if errors.As(err, &refused) && refused > 0 {
		return int16(refused)
	}
	return nil
}

func (d *driver) obey(w words) (any, error) {
	producer, reader := d.producers[w.ID], d.readers[w.ID]
	switch w.Do {
	case "producer":
		return nil, d.produce(w)
	case "send":
		return send(producer, w)
	case "begin":
		return nil, producer.BeginTxn()
	case "commit_transaction":
		return nil, producer.CommitTxn()
	case "abort_transaction":
		return nil, producer.AbortTxn()
	case "send_offsets":
		places := []*sarama.PartitionOffsetMetadata{}
		for _, one := range w.Offsets {
			places = append(places, &sarama.PartitionOffsetMetadata{
				Partition: int32(one[0]), Offset: one[1], LeaderEpoch: -1,
			})
		}
		return nil, producer.AddOffsetsToTxn(
			map[string][]*sarama.PartitionOffsetMetadata{w.Topic: places}, *w.Group)
	case "consumer":
		return nil, d.consume(w)
	case "poll":
		return reader.poll(time.Duration(w.WaitMs) * time.Millisecond), nil
	case "owned":
		return reader.owned(), nil
	case "seek":
		return nil, reader.read(w.Partition, w.Offset)
	case "pause", "resume":
		var partitions []int32
		if err := json.Unmarshal(w.Partitions, &partitions); err != nil {
			return nil, err
		}
		for _, partition := range partitions {
			if w.Do == "pause" {
				reader.partitions[partition].Pause()
			} else {
				reader.partitions[partition].Resume()
			}
		}
		return nil, nil
	case "commit":
		return nil, reader.commit(w.Offsets)
	case "committed":
		return d.committed(reader)
	case "close":
		if producer != nil {
			delete(d.producers, w.ID)
			return nil, producer.Close()
		}
		delete(d.readers, w.ID)
		return nil, reader.close()
	}
	return d.administer(w)
}

func (d *driver) produce(w words) error {
	c := config()
	c.Producer.RequiredAcks = map[string]sarama.RequiredAcks{
		"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll,
	}[w.Acks]
	if err := c.Producer.Compression.UnmarshalText([]byte(w.Compression)); err != nil {
		return err
	}
	c.Producer.MaxMessageBytes = w.MaxBytes
	c.Producer.Flush.Frequency = 50 * time.Millisecond
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 100
	c.Producer.Partitioner = func(topic string) sarama.Partitioner {
		return chooser{sarama.NewHashPartitioner(topic)}
	}
	if w.Idempotent || w.TransactionalID != nil {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	if w.TransactionalID != nil {
		c.Producer.Transaction.ID = *w.TransactionalID
		c.Producer.Transaction.Timeout = time.Duration(w.TransactionTimeoutMs) * time.Millisecond
	}
	producer, err := sarama.NewSyncProducer(d.bootstrap, c)
	d.producers[w.ID] = producer
	return err
}

func send(producer sarama.SyncProducer, w words) (any, error) {
	messages := make([]*sarama.ProducerMessage, 0, len(w.Records))
	for _, one := range w.Records {
		message := &sarama.ProducerMessage{Topic: w.Topic}
		if one.Key != nil {
			message.Key = sarama.ByteEncoder(one.Key)
		}
		if one.Value != nil {
			message.Value = sarama.ByteEncoder(one.Value)
		}
		if one.Partition != nil {
			message.Metadata = *one.Partition
		}
		if one.Timestamp != nil {
			message.Timestamp = time.UnixMilli(*one.Timestamp)
		}
		for _, header := range one.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{
				Key: []byte(header.name), Value: header.value,
			})
		}
		messages = append(messages, message)
	}
	if err := producer.SendMessages(messages); err != nil {
		return nil, err
	}
	places := make([][2]int64, 0, len(messages))
	for _, message := range messages {
		places = append(places, [2]int64{int64(message.Partition), message.Offset})
	}
	return places, nil
}

func (d *driver) consume(w words) error {
	c := config()
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	if w.Start == "latest" {
		c.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	if w.Isolation == "read_committed" {
		c.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	made := &reader{topic: w.Topic, rows: [][]any{}, partitions: map[int32]sarama.PartitionConsumer{}}
	d.readers[w.ID] = made
	if w.Group != nil {
		return d.join(made, w, c)
	}
	consumer, err := sarama.NewConsumer(d.bootstrap, c)
	if err != nil {
		return err
	}
	made.consumer = consumer
	partitions, err := consumer.Partitions(w.Topic)
	for _, partition := range partitions {
		start := c.Consumer.Offsets.Initial
		if at, isTime := w.Start.(float64); isTime {
			if start, err = d.client.GetOffset(w.Topic, partition, int64(at)); err != nil {
				return err
			} else if start < 0 {
				start = sarama.OffsetNewest
			}
		}
		if err := made.read(partition, start); err != nil {
			return err
		}
	}
	return err
}

func (d *driver) join(made *reader, w words, c *sarama.Config) error {
	strategy := sarama.NewBalanceStrategyRange()
	if w.Assignor == "cooperative" {
		strategy = sarama.NewBalanceStrategyCooperativeSticky()
	}
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	c.Consumer.Group.Session.Timeout = time.Duration(w.SessionMs) * time.Millisecond
	c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	if w.Instance != nil {
		c.Consumer.Group.InstanceId = *w.Instance
	}
	group, err := sarama.NewConsumerGroup(d.bootstrap, *w.Group, c)
	if err != nil {
		return err
	}
	made.group, made.name = group, *w.Group
	ctx, stop := context.WithCancel(context.Background())
	made.stop = stop
	go func() {
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{w.Topic}, made); err != nil {
				fmt.Fprintln(os.Stderr, w.Topic, err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return nil
}

func (d *driver) committed(r *reader) (any, error) {
	found, err := d.admin.ListConsumerGroupOffsets(r.name, map[string][]int32{r.topic: r.owned()})
	if err != nil {
		return nil, err
	}
	places := [][2]int64{}
	for partition, one := range found.Blocks[r.topic] {
		if one.Offset >= 0 {
			places = append(places, [2]int64{int64(partition), one.Offset})
		}
	}
	return places, nil
}

func (d *driver) administer(w words) (any, error) {
	switch w.Do {
	case "create_topic":
		wanted := &sarama.TopicDetail{ReplicationFactor: w.Replicas, ConfigEntries: map[string]*string{}}
		if err := json.Unmarshal(w.Partitions, &wanted.NumPartitions); err != nil {
			return nil, err
		}
		for key, value := range w.Settings {
			wanted.ConfigEntries[key] = &value
		}
		return nil, d.admin.CreateTopic(w.Topic, wanted, false)
	case "delete_topic":
		return nil, d.admin.DeleteTopic(w.Topic)
	case "topics":
		found, err := d.admin.ListTopics()
		names := []string{}
		for name := range found {
			names = append(names, name)
		}
		return names, err
	case "partitions_of":
		found, err := d.admin.DescribeTopics([]string{w.Topic})
		if err != nil {
			return nil, err
		} else if found[0].Err != sarama.ErrNoError {
			return nil, found[0].Err
		}
		return len(found[0].Partitions), nil
	case "add_partitions":
		return nil, d.admin.CreatePartitions(w.Topic, w.Total, nil, false)
	case "change_settings":
		changes := map[string]sarama.IncrementalAlterConfigsEntry{}
		for key, value := range w.Settings {
			changes[key] = sarama.IncrementalAlterConfigsEntry{
				Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value,
			}
		}
		return nil, d.admin.IncrementalAlterConfig(sarama.TopicResource, w.Topic, changes, false)
	case "settings_of":
		found, err := d.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: w.Topic})
		settings := map[string]string{}
		for _, one := range found {
			settings[one.Name] = one.Value
		}
		return settings, err
	case "groups":
		found, err := d.admin.ListConsumerGroups()
		names := []string{}
		for name := range found {
			names = append(names, name)
		}
		return names, err
	case "delete_group":
		return nil, d.admin.DeleteConsumerGroup(*w.Group)
	case "delete_records":
		return nil, d.admin.DeleteRecords(w.Topic, map[int32]int64{w.Partition: w.Before})
	case "offsets_of":
		return d.offsetsOf(w.Topic)
	}
	return nil, fmt.Errorf("no such command: %s", w.Do)
}

func (d *driver) offsetsOf(topic string) (any, error) {
	partitions, err := d.client.Partitions(topic)
	if err != nil {
		return nil, err
	}
	found := [][3]int64{}
	for _, partition := range partitions {
		begin, err := d.client.GetOffset(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		end, err := d.client.GetOffset(topic, partition, sarama.OffsetNewest)
		if err != nil {
			return nil, err
		}
		found = append(found, [3]int64{int64(partition), begin, end})
	}
	return found, nil
}
