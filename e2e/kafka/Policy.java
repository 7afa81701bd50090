import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import org.apache.kafka.common.Endpoint;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.server.authorizer.AclCreateResult;
import org.apache.kafka.server.authorizer.AclDeleteResult;
import org.apache.kafka.server.authorizer.Action;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;
import org.apache.kafka.server.authorizer.AuthorizationResult;
import org.apache.kafka.server.authorizer.Authorizer;
import org.apache.kafka.server.authorizer.AuthorizerServerInfo;
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
        if (Requests.topics > Requests.MOST && !request.topic().startsWith("__")) {
            throw new PolicyViolationException("Only " + Requests.MOST + " topics are allowed in a request");
        }
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

    /**
     * An authorizer that allows everything and tells the policy how many topics a request is about to create, which policies do not know: they see
     * the topics one by one.
     */
    public static class Requests implements Authorizer {
        static final int MOST = 5;
        static volatile int topics;

        @Override
        public List<AuthorizationResult> authorize(AuthorizableRequestContext context, List<Action> actions) {
            List<AuthorizationResult> results = new ArrayList<>();
            int created = 0;
            for (Action action : actions) {
                boolean creates = context.requestType() == ApiKeys.CREATE_TOPICS.id && action.operation() == AclOperation.CREATE;
                // Without the right to create any topic, brokers ask for all topics of the request at once.
                boolean any = creates && action.resourcePattern().resourceType() == ResourceType.CLUSTER;
                results.add(any ? AuthorizationResult.DENIED : AuthorizationResult.ALLOWED);
                if (creates && !any) {
                    created++;
                }
            }
            if (created > 0) {
                topics = created;
            }
            return results;
        }

        @Override
        public Map<Endpoint, ? extends CompletionStage<Void>> start(AuthorizerServerInfo info) {
            Map<Endpoint, CompletionStage<Void>> started = new java.util.HashMap<>();
            info.endpoints().forEach(endpoint -> started.put(endpoint, CompletableFuture.completedFuture(null)));
            return started;
        }

        @Override
        public List<? extends CompletionStage<AclCreateResult>> createAcls(AuthorizableRequestContext context, List<AclBinding> acls) {
            return List.of();
        }

        @Override
        public List<? extends CompletionStage<AclDeleteResult>> deleteAcls(AuthorizableRequestContext context, List<AclBindingFilter> filters) {
            return List.of();
        }

        @Override
        public Iterable<AclBinding> acls(AclBindingFilter filter) {
            return List.of();
        }

        @Override
        public void configure(Map<String, ?> configs) {}

        @Override
        public void close() {}
    }
}
