import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** Prints what Apache Kafka's own client classes find on a cluster about a source: Mirror BOOTSTRAP SOURCE [GROUP ...]. */
public class Mirror {
    public static void main(String[] args) throws Exception {
        Map<String, Object> properties = new HashMap<>();
        properties.put("bootstrap.servers", args[0]);
        try (MirrorClient client = new MirrorClient(properties)) {
            System.out.println("upstreamClusters=" + new TreeSet<>(client.upstreamClusters()));
            System.out.println("replicationHops=" + client.replicationHops(args[1]));
            System.out.println("heartbeatTopics=" + new TreeSet<>(client.heartbeatTopics()));
            System.out.println("checkpointTopics=" + new TreeSet<>(client.checkpointTopics()));
            System.out.println("remoteTopics=" + new TreeSet<>(client.remoteTopics(args[1])));
        }
        for (int i = 2; i < args.length; i++) {
            Map<TopicPartition, OffsetAndMetadata> offsets = RemoteClusterUtils.translateOffsets(properties, args[1], args[i], Duration.ofSeconds(30));
            Map<String, String> sorted = new TreeMap<>();
            offsets.forEach((tp, o) -> sorted.put(tp.toString(), o.offset() + "/" + o.metadata() + "/" + o.leaderEpoch().isPresent()));
            System.out.println("translateOffsets(" + args[i] + ")=" + sorted);
        }
    }
}
