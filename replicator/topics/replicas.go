package topics

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/config"
)

// byBrokers is the replication factor for which brokers take their default, since Kafka 2.4 (KIP-464).
const byBrokers = -1

// ownReplicas is the replication factor of milena's own topics, as in MirrorMaker 2.
const ownReplicas = 3

// copyReplicas is the replication factor of a copy that is created: that of the flow or, if it has none, that of the source topic, as far as the
// target has brokers. It is -1 where the brokers decide. With that of the source, most is the number of the target's brokers, else 0.
func copyReplicas(f config.Flow, source Topic, target View) (replicas, most int16) {
	if f.ReplicationFactor != 0 {
		return f.ReplicationFactor, 0
	}
	most = int16(min(len(target.Brokers), math.MaxInt16))
	if replicas = int16(min(source.replicas(), int32(most))); replicas > 0 {
		return replicas, most
	}
	return byBrokers, 0
}

// writable is the replication factor that a copy is created with, given the defaults of the target's configs. With no more replicas than
// min.insync.replicas, a copy of a source without replicas could not be written, or not while a single broker is down.
func (p Pair) writable(known map[string]string) int16 {
	if p.Replicas <= 0 {
		return byBrokers
	}
	if least, err := strconv.ParseInt(known["min.insync.replicas"], 10, 16); err == nil && least > 1 && p.most > 0 {
		return max(p.Replicas, min(p.most, int16(least)+1))
	}
	return p.Replicas
}

// replicas is the smallest number of replicas that a partition of the topic has, 0 if it is not known.
func (t Topic) replicas() int32 {
	if len(t.Partitions) == 0 {
		return 0
	}
	return slices.MinFunc(t.Partitions, func(a, b Partition) int { return int(a.Replicas - b.Replicas) }).Replicas
}

// Fewer returns the numbers of replicas of the source topic and of its copy, existing or to be created, if the copy has fewer of them.
func (p Pair) Fewer() (source, copied int32, fewer bool) {
	source, copied = p.Source.replicas(), int32(p.Replicas)
	if p.Target.Exists() {
		copied = p.Target.replicas()
	}
	return source, copied, copied > 0 && copied < source
}

// replicas returns the replication factor to create the topic with, and the one to try if the cluster refuses the first; 0 for none.
func (o Own) replicas() (first, second int16) {
	most := int16(min(ownReplicas, o.Brokers))
	switch {
	case o.ReplicationFactor > 0:
		return o.ReplicationFactor, 0
	case o.ReplicationFactor == byBrokers || most == 0:
		return byBrokers, most // brokers before 2.4 have no default
	default:
		return most, byBrokers
	}
}

// isOtherReplicas reports whether a refusal is one for which another replication factor may be tried: a broker that knows no default, or a policy
// that wants its own. That too few brokers are there at the moment is none: brokers come back.
func isOtherReplicas(tried int16, refusal answer) bool {
	if errors.Is(refusal.err, kerr.InvalidReplicationFactor) {
		return tried == byBrokers
	}
	return errors.Is(refusal.err, kerr.PolicyViolation) && refusal.message != nil && strings.Contains(strings.ToLower(*refusal.message), "replica")
}
