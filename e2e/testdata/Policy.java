import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.AlterConfigPolicy;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** Broker policies that refuse some topic configs, as managed Kafka services do with the configs that they control. */
public class Policy implements AlterConfigPolicy, CreateTopicPolicy {
    @Override
    public void validate(AlterConfigPolicy.RequestMetadata request) {
        if (request.configs().containsKey("file.delete.delay.ms")) {
            throw new PolicyViolationException("file.delete.delay.ms is not yours to set");
        }
    }

    @Override
    public void validate(CreateTopicPolicy.RequestMetadata request) {
        Map<String, String> configs = request.configs();
        if (request.topic().endsWith("never")) {
            throw new PolicyViolationException("a topic named never is not allowed");
        }
        if (configs.containsKey("segment.ms")) {
            throw new PolicyViolationException("Config property 'segment.ms' is not allowed");
        }
        if (configs.containsKey("segment.bytes") && Long.parseLong(configs.get("segment.bytes")) < 52428800) {
            throw new PolicyViolationException("Config property 'segment.bytes' must be at least 52428800");
        }
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
