import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.AlterConfigPolicy;

/** A broker policy that refuses one topic config, as managed Kafka services do with the configs that they control. */
public class Policy implements AlterConfigPolicy {
    @Override
    public void validate(RequestMetadata request) {
        if (request.configs().containsKey("file.delete.delay.ms")) {
            throw new PolicyViolationException("file.delete.delay.ms is not yours to set");
        }
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
