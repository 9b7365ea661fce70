import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;

/**
 * Kafka Streams' word count: the words of the lines in one topic, counted by word, every count written to another.
 *
 * WordCount INPUT OUTPUT NAME=VALUE... runs until its standard input ends, and says each state that it comes to.
 * A line that is "!" makes it ask for the end of the whole application.
 */
public class WordCount {
    static final CloseOptions LEAVE = CloseOptions.groupMembershipOperation(GroupMembershipOperation.LEAVE_GROUP);

    public static void main(String[] words) throws Exception {
        Properties config = new Properties();
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        for (String word : Arrays.asList(words).subList(2, words.length)) {
            String[] pair = word.split("=", 2);
            config.put(pair[0], pair[1]);
        }
        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> lines = builder.stream(words[0]);
        lines
            .flatMapValues(WordCount::split)
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to(words[1]);
        try (KafkaStreams streams = new KafkaStreams(builder.build(config), config)) {
            streams.setStateListener((now, before) -> System.out.println(now));
            streams.setUncaughtExceptionHandler(error -> StreamThreadExceptionResponse.SHUTDOWN_APPLICATION);
            streams.start();
            while (System.in.read() >= 0) {
                continue;
            }
            System.out.println("closed " + streams.close(LEAVE.withTimeout(Duration.ofSeconds(30))));
        }
    }

    static Iterable<String> split(String line) {
        if (line.equals("!")) {
            throw new IllegalStateException("asked to");
        }
        return Arrays.asList(line.split(" "));
    }
}
