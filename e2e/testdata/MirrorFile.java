import java.io.FileReader;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.MirrorMakerConfig;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;
import org.apache.kafka.connect.mirror.ReplicationPolicy;

/**
 * Prints what Apache Kafka's own client classes find on a cluster about another one, configured by an mm2.properties:
 * MirrorFile FILE CLUSTER REMOTE [GROUP ...].
 */
public class MirrorFile {
    public static void main(String[] args) throws Exception {
        Properties file = new Properties();
        try (FileReader reader = new FileReader(args[0])) {
            file.load(reader);
        }
        Map<String, String> texts = new HashMap<>();
        file.stringPropertyNames().forEach(name -> texts.put(name, file.getProperty(name)));
        String cluster = args[1], remote = args[2];
        Map<String, Object> properties = new HashMap<>(new MirrorMakerConfig(texts).clientConfig(cluster).originals());
        properties.put("source.cluster.alias", remote); // IdentityReplicationPolicy requires it
        try (MirrorClient client = new MirrorClient(properties); Admin admin = Admin.create(properties)) {
            ReplicationPolicy policy = client.replicationPolicy();
            System.out.println("policy=" + policy.getClass().getSimpleName());
            System.out.println("names=" + policy.heartbeatsTopic() + " " + policy.checkpointsTopic(remote) + " "
                + policy.offsetSyncsTopic(remote) + " " + policy.formatRemoteTopic(remote, "x"));
            System.out.println("heartbeatTopics=" + new TreeSet<>(client.heartbeatTopics()));
            System.out.println("checkpointTopics=" + new TreeSet<>(client.checkpointTopics()));
            System.out.println("upstreamClusters=" + new TreeSet<>(client.upstreamClusters()));
            System.out.println("replicationHops=" + client.replicationHops(remote) + " " + client.replicationHops(cluster) + " " + client.replicationHops("nowhere"));
            System.out.println("remoteTopics=" + new TreeSet<>(client.remoteTopics(remote)));
            System.out.println("allRemoteTopics=" + new TreeSet<>(client.remoteTopics()));
            for (String topic : new TreeSet<>(admin.listTopics().names().get())) {
                System.out.println("topic " + topic + " source=" + policy.topicSource(topic) + " upstream=" + policy.upstreamTopic(topic)
                    + " original=" + policy.originalTopic(topic) + " internal=" + policy.isInternalTopic(topic)
                    + " mm2=" + policy.isMM2InternalTopic(topic) + " heartbeats=" + policy.isHeartbeatsTopic(topic)
                    + " checkpoints=" + policy.isCheckpointsTopic(topic));
            }
            Map<String, Map<TopicPartition, OffsetAndMetadata>> all = client.remoteConsumerOffsets(Pattern.compile(".*"), remote, Duration.ofSeconds(30));
            for (int i = 3; i < args.length; i++) {
                Map<TopicPartition, OffsetAndMetadata> one = client.remoteConsumerOffsets(args[i], remote, Duration.ofSeconds(30));
                Map<TopicPartition, OffsetAndMetadata> other = RemoteClusterUtils.translateOffsets(properties, remote, args[i], Duration.ofSeconds(30));
                System.out.println("translateOffsets(" + args[i] + ")=" + text(one));
                if (!one.equals(other) || !one.equals(all.getOrDefault(args[i], Map.of()))) {
                    System.out.println("the methods disagree: " + text(one) + " " + text(other) + " " + all);
                }
            }
        }
    }

    private static Map<String, String> text(Map<TopicPartition, OffsetAndMetadata> offsets) {
        Map<String, String> sorted = new TreeMap<>();
        offsets.forEach((tp, o) -> sorted.put(tp.toString(), o.offset() + "/" + o.metadata() + "/" + o.leaderEpoch().isPresent()));
        return sorted;
    }
}
