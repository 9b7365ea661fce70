// Apache Kafka's own Java client, told what to do by lines of JSON (see clients/driver.py).

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.*;

public class Driver {
    private record Reader(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        TopicPartition at(int partition) {
            return new TopicPartition(topic, partition);
        }

        List<TopicPartition> at(JsonNode partitions) {
            List<TopicPartition> found = new ArrayList<>();
            partitions.forEach(one -> found.add(at(one.asInt())));
            return found;
        }
    }

    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private final ObjectMapper json = new ObjectMapper();
    private final Map<Integer, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final Map<Integer, Reader> readers = new HashMap<>();
    private final String bootstrap;
    private final Admin admin;

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] words) throws Exception {
        PrintStream out = System.out;
        System.setOut(System.err);
        new Driver(words[0]).run(out);
        System.exit(0);
    }

    private void run(PrintStream out) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = commands.readLine()) != null; ) {
            Map<String, Object> answer = new HashMap<>();
            try {
                answer.put("ok", obey(json.readTree(line)));
            } catch (Exception wrapped) {
                Throwable refused = wrapped instanceof ExecutionException ? wrapped.getCause() : wrapped;
                Errors error = Errors.forException(refused);
                answer.put("error", refused.toString());
                answer.put("code", error == Errors.UNKNOWN_SERVER_ERROR ? null : error.code());
            }
            out.println(json.writeValueAsString(answer));
            out.flush();
        }
    }

    private Object obey(JsonNode words) throws Exception {
        int id = words.path("id").asInt();
        String topic = words.path("topic").asText(null);
        KafkaProducer<byte[], byte[]> producer = producers.get(id);
        Reader reader = readers.get(id);
        switch (words.get("do").asText()) {
            case "producer" -> producers.put(id, producer(words));
            case "send" -> {
                return send(producer, topic, words.get("records"));
            }
            case "begin" -> producer.beginTransaction();
            case "commit_transaction" -> producer.commitTransaction();
            case "abort_transaction" -> producer.abortTransaction();
            case "send_offsets" -> producer.sendOffsetsToTransaction(
                    positions(topic, words.get("offsets")), new ConsumerGroupMetadata(words.get("group").asText()));
            case "consumer" -> readers.put(id, new Reader(consumer(words), topic));
            case "poll" -> {
                return rows(reader.consumer.poll(Duration.ofMillis(words.get("wait_ms").asInt())));
            }
            case "owned" -> {
                return reader.consumer.assignment().stream().map(TopicPartition::partition).toList();
            }
            case "seek" -> reader.consumer.seek(
                    reader.at(words.get("partition").asInt()), words.get("offset").asLong());
            case "pause" -> reader.consumer.pause(reader.at(words.get("partitions")));
            case "resume" -> reader.consumer.resume(reader.at(words.get("partitions")));
            case "commit" -> reader.consumer.commitSync(positions(reader.topic, words.get("offsets")));
            case "committed" -> {
                return committed(reader);
            }
            case "close" -> close(id);
            case "create_topic" -> admin.createTopics(List.of(new NewTopic(
                                    topic,
                                    words.get("partitions").asInt(),
                                    (short) words.get("replicas").asInt())
                            .configs(settings(words.get("settings")))))
                    .all()
                    .get();
            case "delete_topic" -> admin.deleteTopics(List.of(topic)).all().get();
            case "topics" -> {
                return admin.listTopics().names().get();
            }
            case "partitions_of" -> {
                return partitions(topic).size();
            }
            case "add_partitions" -> admin.createPartitions(
                            Map.of(topic, NewPartitions.increaseTo(words.get("total").asInt())))
                    .all()
                    .get();
            case "change_settings" -> changeSettings(topic, settings(words.get("settings")));
            case "settings_of" -> {
                return settingsOf(topic);
            }
            case "groups" -> {
                return admin.listGroups().all().get().stream().map(GroupListing::groupId).toList();
            }
            case "delete_group" -> admin.deleteConsumerGroups(List.of(words.get("group").asText()))
                    .all()
                    .get();
            case "delete_records" -> admin.deleteRecords(Map.of(
                            new TopicPartition(topic, words.get("partition").asInt()),
                            RecordsToDelete.beforeOffset(words.get("before").asLong())))
                    .all()
                    .get();
            case "offsets_of" -> {
                return offsetsOf(topic);
            }
            default -> throw new IllegalArgumentException(words.toString());
        }
        return null;
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode words) {
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap,
                "acks", words.get("acks").asText(),
                "compression.type", words.get("compression").asText(),
                "enable.idempotence", words.get("idempotent").asBoolean(),
                "max.request.size", words.get("max_bytes").asInt(),
                "batch.size", words.get("max_bytes").asInt(),
                "max.block.ms", words.get("patience_ms").asInt(),
                "linger.ms", 50));
        if (words.hasNonNull("transactional_id")) {
            settings.put("enable.idempotence", true);
            settings.put("transactional.id", words.get("transactional_id").asText());
            settings.put("transaction.timeout.ms", words.get("transaction_timeout_ms").asInt());
        }
        var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        if (settings.containsKey("transactional.id")) producer.initTransactions();
        return producer;
    }

    private List<List<Long>> send(KafkaProducer<byte[], byte[]> producer, String topic, JsonNode records)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode one : records) {
            var record = new ProducerRecord<>(
                    topic,
                    one.hasNonNull("partition") ? one.get("partition").asInt() : null,
                    one.hasNonNull("timestamp") ? one.get("timestamp").asLong() : null,
                    one.get("key").binaryValue(),
                    one.get("value").binaryValue());
            for (JsonNode header : one.get("headers"))
                record.headers().add(header.get(0).asText(), header.get(1).binaryValue());
            sent.add(producer.send(record));
        }
        producer.flush();
        List<List<Long>> places = new ArrayList<>();
        for (Future<RecordMetadata> one : sent)
            places.add(List.of((long) one.get().partition(), one.get().offset()));
        return places;
    }

    private KafkaConsumer<byte[], byte[]> consumer(JsonNode words) throws Exception {
        JsonNode start = words.get("start");
        String topic = words.get("topic").asText();
        boolean isClassic = words.get("protocol").asText().equals("classic");
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap,
                "auto.offset.reset", start.isTextual() ? start.asText() : "earliest",
                "isolation.level", words.get("isolation").asText(),
                "enable.auto.commit", false,
                "fetch.max.wait.ms", 100));
        if (words.hasNonNull("instance")) settings.put("group.instance.id", words.get("instance").asText());
        if (words.hasNonNull("group")) {
            settings.put("group.id", words.get("group").asText());
            settings.put("group.protocol", words.get("protocol").asText());
        }
        if (isClassic) {
            settings.put("session.timeout.ms", words.get("session_ms").asInt());
            settings.put("heartbeat.interval.ms", 200);
            Class<?> assignor = words.get("assignor").asText().equals("range")
                    ? RangeAssignor.class
                    : CooperativeStickyAssignor.class;
            settings.put("partition.assignment.strategy", List.of(assignor));
        }
        var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        if (words.hasNonNull("group")) {
            consumer.subscribe(List.of(topic));
            return consumer;
        }
        List<TopicPartition> every = partitions(topic);
        consumer.assign(every);
        if (start.isTextual() && start.asText().equals("earliest")) consumer.seekToBeginning(every);
        else if (start.isTextual()) every.forEach(at -> consumer.seek(at, consumer.endOffsets(List.of(at)).get(at)));
        else {
            Map<TopicPartition, Long> asked = new HashMap<>();
            every.forEach(at -> asked.put(at, start.asLong()));
            consumer.offsetsForTimes(asked).forEach((at, found) -> {
                if (found == null) consumer.seekToEnd(List.of(at));
                else consumer.seek(at, found.offset());
            });
        }
        return consumer;
    }

    private List<List<Object>> rows(ConsumerRecords<byte[], byte[]> records) {
        List<List<Object>> rows = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> one : records) {
            List<List<Object>> headers = new ArrayList<>();
            for (Header header : one.headers()) headers.add(Arrays.asList(header.key(), header.value()));
            rows.add(Arrays.asList(one.partition(), one.offset(), one.timestamp(), one.key(), one.value(), headers));
        }
        return rows;
    }

    private List<List<Long>> committed(Reader reader) {
        List<List<Long>> found = new ArrayList<>();
        reader.consumer.committed(reader.consumer.assignment(), DEADLINE).forEach((at, position) -> {
            if (position != null) found.add(List.of((long) at.partition(), position.offset()));
        });
        return found;
    }

    private void close(int id) {
        if (producers.containsKey(id)) producers.remove(id).close(Duration.ofSeconds(1));
        else readers.remove(id).consumer.close();
    }

    private List<TopicPartition> partitions(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
                .map(one -> new TopicPartition(topic, one.partition()))
                .toList();
    }

    private static Map<TopicPartition, OffsetAndMetadata> positions(String topic, JsonNode offsets) {
        Map<TopicPartition, OffsetAndMetadata> found = new HashMap<>();
        for (JsonNode one : offsets)
            found.put(
                    new TopicPartition(topic, one.get(0).asInt()),
                    new OffsetAndMetadata(one.get(1).asLong()));
        return found;
    }

    private static Map<String, String> settings(JsonNode given) {
        Map<String, String> found = new HashMap<>();
        given.fields().forEachRemaining(one -> found.put(one.getKey(), one.getValue().asText()));
        return found;
    }

    private void changeSettings(String topic, Map<String, String> settings) throws Exception {
        List<AlterConfigOp> changes = new ArrayList<>();
        settings.forEach((key, value) ->
                changes.add(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.incrementalAlterConfigs(Map.of(resource, (Collection<AlterConfigOp>) changes))
                .all()
                .get();
    }

    private Map<String, String> settingsOf(String topic) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Map<String, String> found = new HashMap<>();
        admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()
                .forEach(one -> found.put(one.name(), one.value()));
        return found;
    }

    private List<List<Long>> offsetsOf(String topic) throws Exception {
        Map<TopicPartition, OffsetSpec> begin = new HashMap<>();
        Map<TopicPartition, OffsetSpec> end = new HashMap<>();
        for (TopicPartition at : partitions(topic)) {
            begin.put(at, OffsetSpec.earliest());
            end.put(at, OffsetSpec.latest());
        }
        var begins = admin.listOffsets(begin).all().get();
        var ends = admin.listOffsets(end).all().get();
        List<List<Long>> found = new ArrayList<>();
        begins.forEach((at, one) ->
                found.add(List.of((long) at.partition(), one.offset(), ends.get(at).offset())));
        return found;
    }
}
