// franz-go, told what to do by lines of JSON (see clients/driver.py).
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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const deadline = 45 * time.Second

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
	MaxBytes             int32   `json:"max_bytes"`
	Records              []struct {
		Key, Value []byte
		Partition  *int32
		Timestamp  *int64
		Headers    []header
	}
	Group      *string
	Start      any
	Isolation  string
	Protocol   string
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
	Total      int
	Before     int64
}

// chooser takes the partition that a record names, and else lets the client choose.
type chooser struct{ kgo.Partitioner }
type topicChooser struct{ kgo.TopicPartitioner }

func (c chooser) ForTopic(topic string) kgo.TopicPartitioner {
	return topicChooser{c.Partitioner.ForTopic(topic)}
}

func (c topicChooser) RequiresConsistency(*kgo.Record) bool { return true }

func (c topicChooser) Partition(record *kgo.Record, n int) int {
	if record.Partition >= 0 {
		return int(record.Partition)
	}
	return c.TopicPartitioner.Partition(record, n)
}

type reader struct {
	client *kgo.Client
	topic  string
	group  string
	mutex  sync.Mutex
	owned  map[int32]bool
}

func (r *reader) assigned(_ context.Context, _ *kgo.Client, came map[string][]int32) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, partition := range came[r.topic] {
		r.owned[partition] = true
	}
}

func (r *reader) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, partition := range gone[r.topic] {
		delete(r.owned, partition)
	}
}

type driver struct {
	bootstrap []string
	admin     *kadm.Client
	producers map[int]*kgo.Client
	readers   map[int]*reader
}

func main() {
	bootstrap := strings.Split(os.Args[1], ",")
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
	if err != nil {
		panic(err)
	}
	d := &driver{bootstrap, kadm.NewClient(client), map[int]*kgo.Client{}, map[int]*reader{}}
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
		answer := map[string]any{"error": err.Error(), "code": nil}
		if refused := (*kerr.Error)(nil); errors.As(err, &refused) {
			answer["code"] = refused.Code
		}
		answers.Encode(answer)
	}
}

func (d *driver) obey(w words) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	producer, reader := d.producers[w.ID], d.readers[w.ID]
	switch w.Do {
	case "producer":
		return nil, d.produce(w)
	case "send":
		return send(ctx, producer, w)
	case "begin":
		return nil, producer.BeginTransaction()
	case "commit_transaction":
		return nil, producer.EndTransaction(ctx, kgo.TryCommit)
	case "abort_transaction":
		return nil, producer.EndTransaction(ctx, kgo.TryAbort)
	case "consumer":
		return nil, d.consume(w)
	case "poll":
		return poll(reader, time.Duration(w.WaitMs)*time.Millisecond)
	case "owned":
		return owned(reader), nil
	case "seek":
		at := map[int32]kgo.EpochOffset{w.Partition: {Epoch: -1, Offset: w.Offset}}
		reader.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{reader.topic: at})
		return nil, nil
	case "pause", "resume":
		var partitions []int32
		if err := json.Unmarshal(w.Partitions, &partitions); err != nil {
			return nil, err
		}
		if w.Do == "pause" {
			reader.client.PauseFetchPartitions(map[string][]int32{reader.topic: partitions})
		} else {
			reader.client.ResumeFetchPartitions(map[string][]int32{reader.topic: partitions})
		}
		return nil, nil
	case "commit":
		return nil, commit(ctx, reader, w.Offsets)
	case "committed":
		return d.committed(ctx, reader)
	case "close":
		if producer != nil {
			delete(d.producers, w.ID)
			producer.Close()
		} else if reader != nil {
			delete(d.readers, w.ID)
			reader.client.Close()
		}
		return nil, nil
	}
	return d.administer(ctx, w)
}

func (d *driver) produce(w words) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	options := []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap...),
		kgo.RequiredAcks(acks[w.Acks]),
		kgo.ProducerBatchCompression(codecs[w.Compression]),
		kgo.ProducerBatchMaxBytes(w.MaxBytes),
		kgo.ProducerLinger(50 * time.Millisecond),
		kgo.RecordPartitioner(chooser{kgo.StickyKeyPartitioner(nil)}),
	}
	if w.TransactionalID != nil {
		options = append(options, kgo.TransactionalID(*w.TransactionalID),
			kgo.TransactionTimeout(time.Duration(w.TransactionTimeoutMs)*time.Millisecond))
	} else if !w.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	d.producers[w.ID] = client
	return err
}

func send(ctx context.Context, producer *kgo.Client, w words) (any, error) {
	records := make([]*kgo.Record, 0, len(w.Records))
	for _, one := range w.Records {
		record := &kgo.Record{Topic: w.Topic, Key: one.Key, Value: one.Value, Partition: -1}
		if one.Partition != nil {
			record.Partition = *one.Partition
		}
		if one.Timestamp != nil {
			record.Timestamp = time.UnixMilli(*one.Timestamp)
		}
		for _, header := range one.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.name, Value: header.value})
		}
		records = append(records, record)
	}
	if err := producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	places := make([][2]int64, 0, len(records))
	for _, record := range records {
		places = append(places, [2]int64{int64(record.Partition), record.Offset})
	}
	return places, nil
}

func (d *driver) consume(w words) error {
	made := &reader{topic: w.Topic, owned: map[int32]bool{}}
	start := kgo.NewOffset().AtStart()
	if at, isTime := w.Start.(float64); isTime {
		start = start.AfterMilli(int64(at))
	} else if w.Start == "latest" {
		start = kgo.NewOffset().AtEnd()
	}
	isolation := kgo.ReadUncommitted()
	if w.Isolation == "read_committed" {
		isolation = kgo.ReadCommitted()
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(d.bootstrap...),
		kgo.ConsumeTopics(w.Topic),
		kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(isolation),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}
	if w.Group != nil {
		made.group = *w.Group
		options = append(options, kgo.ConsumerGroup(made.group), kgo.DisableAutoCommit(),
			kgo.OnPartitionsAssigned(made.assigned), kgo.OnPartitionsRevoked(made.revoked),
			kgo.OnPartitionsLost(made.revoked), kgo.HeartbeatInterval(200*time.Millisecond))
		balancer := kgo.RangeBalancer()
		if w.Assignor == "cooperative" {
			balancer = kgo.CooperativeStickyBalancer()
		}
		options = append(options, kgo.Balancers(balancer))
		if w.Protocol == "consumer" {
			options = append(options, kgo.ServerSideBalancer())
		} else {
			options = append(options, kgo.SessionTimeout(time.Duration(w.SessionMs)*time.Millisecond))
		}
		if w.Instance != nil {
			options = append(options, kgo.InstanceID(*w.Instance))
		}
	}
	client, err := kgo.NewClient(options...)
	made.client = client
	d.readers[w.ID] = made
	return err
}

func poll(r *reader, wait time.Duration) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := r.client.PollFetches(ctx)
	for _, one := range fetches.Errors() {
		if !errors.Is(one.Err, context.DeadlineExceeded) {
			return nil, one.Err
		}
	}
	rows := [][]any{}
	fetches.EachRecord(func(one *kgo.Record) {
		headers := [][]any{}
		for _, header := range one.Headers {
			headers = append(headers, []any{header.Key, header.Value})
		}
		rows = append(rows, []any{
			one.Partition, one.Offset, one.Timestamp.UnixMilli(), one.Key, one.Value, headers,
		})
	})
	return rows, nil
}

func owned(r *reader) []int32 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	found := []int32{}
	for partition := range r.owned {
		found = append(found, partition)
	}
	return found
}

func commit(ctx context.Context, r *reader, offsets [][2]int64) error {
	places := map[int32]kgo.EpochOffset{}
	for _, one := range offsets {
		places[int32(one[0])] = kgo.EpochOffset{Epoch: -1, Offset: one[1]}
	}
	var refused error
	r.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{r.topic: places},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			refused = err
			for _, topic := range answer.Topics {
				for _, one := range topic.Partitions {
					refused = errors.Join(refused, kerr.ErrorForCode(one.ErrorCode))
				}
			}
		})
	return refused
}

func (d *driver) committed(ctx context.Context, r *reader) (any, error) {
	found, err := d.admin.FetchOffsets(ctx, r.group)
	places := [][2]int64{}
	found.Each(func(one kadm.OffsetResponse) {
		if one.Topic == r.topic && one.At >= 0 {
			places = append(places, [2]int64{int64(one.Partition), one.At})
		}
	})
	return places, err
}

func (d *driver) administer(ctx context.Context, w words) (any, error) {
	switch w.Do {
	case "create_topic":
		var partitions int32
		if err := json.Unmarshal(w.Partitions, &partitions); err != nil {
			return nil, err
		}
		settings := map[string]*string{}
		for key, value := range w.Settings {
			settings[key] = &value
		}
		_, err := d.admin.CreateTopic(ctx, partitions, w.Replicas, settings, w.Topic)
		return nil, err
	case "delete_topic":
		_, err := d.admin.DeleteTopic(ctx, w.Topic)
		return nil, err
	case "topics":
		found, err := d.admin.ListTopics(ctx)
		return found.Names(), err
	case "partitions_of":
		found, err := d.admin.ListTopics(ctx, w.Topic)
		if err == nil {
			err = found.Error()
		}
		return len(found[w.Topic].Partitions), err
	case "add_partitions":
		found, err := d.admin.UpdatePartitions(ctx, w.Total, w.Topic)
		if err == nil {
			err = found.Error()
		}
		return nil, err
	case "change_settings":
		changes := []kadm.AlterConfig{}
		for key, value := range w.Settings {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value})
		}
		found, err := d.admin.AlterTopicConfigs(ctx, changes, w.Topic)
		if err == nil {
			err = found[0].Err
		}
		return nil, err
	case "settings_of":
		found, err := d.admin.DescribeTopicConfigs(ctx, w.Topic)
		if err != nil {
			return nil, err
		}
		settings := map[string]string{}
		for _, one := range found[0].Configs {
			settings[one.Key] = one.MaybeValue()
		}
		return settings, found[0].Err
	case "groups":
		found, err := d.admin.ListGroups(ctx)
		return found.Groups(), err
	case "delete_group":
		_, err := d.admin.DeleteGroup(ctx, *w.Group)
		return nil, err
	case "delete_records":
		places := kadm.Offsets{}
		places.AddOffset(w.Topic, w.Partition, w.Before, -1)
		found, err := d.admin.DeleteRecords(ctx, places)
		if err == nil {
			err = found.Error()
		}
		return nil, err
	case "offsets_of":
		return d.offsetsOf(ctx, w.Topic)
	}
	return nil, fmt.Errorf("no such command: %s", w.Do)
}

func (d *driver) offsetsOf(ctx context.Context, topic string) (any, error) {
	begins, err := d.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := d.admin.ListEndOffsets(ctx, topic)
	found := [][3]int64{}
	ends.Each(func(one kadm.ListedOffset) {
		begin, _ := begins.Lookup(topic, one.Partition)
		found = append(found, [3]int64{int64(one.Partition), begin.Offset, one.Offset})
	})
	return found, err
}
