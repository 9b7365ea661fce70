import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;

/**
 * Words of the lines in one topic, counted by Flink, every count written to another topic exactly once.
 *
 * WordCount BOOTSTRAP NAME INPUT OUTPUT NAMING SETTING=VALUE... runs until its standard input ends, and says when it
 * runs and when the job has ended; NAMING is how the sink names its transactions.
 */
public class WordCount {
    public static void main(String[] words) throws Exception {
        Configuration config = new Configuration();
        for (String word : Arrays.asList(words).subList(5, words.length)) {
            String[] pair = word.split("=", 2);
            config.setString(pair[0], pair[1]);
        }
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(config);
        env.fromSource(lines(words[0], words[1], words[2]), WatermarkStrategy.noWatermarks(), "lines")
            .uid("lines")
            .flatMap(WordCount::split)
            .returns(Types.TUPLE(Types.STRING, Types.LONG))
            .keyBy(pair -> pair.f0)
            .sum(1)
            .uid("counts")
            .sinkTo(counts(words[0], words[1], words[3], TransactionNamingStrategy.valueOf(words[4])))
            .uid("written");
        JobClient job = env.executeAsync();
        job.getJobExecutionResult().whenComplete((result, error) -> ended(error));
        while (job.getJobStatus().get() != JobStatus.RUNNING) {
            Thread.sleep(50);
        }
        System.out.println("RUNNING");
        while (System.in.read() >= 0) {
            continue;
        }
        job.stopWithSavepoint(false, config.getString("execution.checkpointing.dir", null), SavepointFormatType.CANONICAL)
            .get();
    }

    static void ended(Throwable error) {
        if (error != null) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    static KafkaSource<String> lines(String bootstrap, String group, String topic) {
        return KafkaSource.<String>builder()
            .setBootstrapServers(bootstrap)
            .setGroupId(group)
            .setTopics(topic)
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setProperty("isolation.level", "read_committed")
            .setValueOnlyDeserializer(new SimpleStringSchema())
            .build();
    }

    static KafkaSink<Tuple2<String, Long>> counts(
        String bootstrap, String name, String topic, TransactionNamingStrategy naming) {
        return KafkaSink.<Tuple2<String, Long>>builder()
            .setBootstrapServers(bootstrap)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix(name)
            .setTransactionNamingStrategy(naming)
            .setProperty("transaction.timeout.ms", "60000")
            .setRecordSerializer(
                KafkaRecordSerializationSchema.<Tuple2<String, Long>>builder()
                    .setTopic(topic)
                    .setKeySerializationSchema(new Word())
                    .setValueSerializationSchema(new Count())
                    .build())
            .build();
    }

    static void split(String line, Collector<Tuple2<String, Long>> words) {
        for (String word : line.split(" ")) {
            words.collect(Tuple2.of(word, 1L));
        }
    }

    // Classes, because Flink looks for what type they write, which a lambda does not tell.
    static class Word implements SerializationSchema<Tuple2<String, Long>> {
        @Override
        public byte[] serialize(Tuple2<String, Long> pair) {
            return pair.f0.getBytes(StandardCharsets.UTF_8);
        }
    }

    static class Count implements SerializationSchema<Tuple2<String, Long>> {
        @Override
        public byte[] serialize(Tuple2<String, Long> pair) {
            return Long.toString(pair.f1).getBytes(StandardCharsets.UTF_8);
        }
    }
}
