package config

import (
	"fmt"
	"slices"
	"strings"
)

// leftover says what becomes of a property that did not arrive in the Config: it has no effect here, or nobody knows it, or
// it is a mistake.
func (m *mm2) leftover(p *property) {
	if strings.Contains(p.key, "->") {
		m.leftoverOfFlow(p)
		return
	}
	alias := ""
	for _, a := range m.aliases {
		if strings.HasPrefix(p.key, a+".") && len(a) > len(alias) {
			alias = a
		}
	}
	if alias == "" {
		m.leftoverOfAll(p)
		return
	}
	key := strings.TrimPrefix(p.key, alias+".")
	prefix, base := cutClient(key)
	switch {
	case m.refused(p, base):
	case prefix != "" && isConnection(base):
		m.compare(p, alias, base)
	case slices.Contains(flowKeys(), key):
		m.note(p, fmt.Sprintf("has no effect on a cluster, in MirrorMaker 2 neither; write %s for all flows, or a->b.%s for one", key, key))
	default:
		m.explain(p, base, nil)
	}
}

func (m *mm2) leftoverOfAll(p *property) {
	prefix, _ := cutClient(p.key)
	switch alias, key, _ := strings.Cut(p.key, "."); {
	case p.key == "enabled":
		m.bad(p, "does not say which flow; write a->b.enabled = true for each")
	case strings.HasPrefix(p.key, "config.providers."):
		m.note(p, "is not used")
	case prefix != "":
		m.note(p, "has no effect without an alias before it, in MirrorMaker 2 neither")
	case key == "bootstrap.servers":
		m.bad(p, "is of the cluster %q, which is not one of clusters; add it there, or remove the key", alias)
	default:
		m.explain(p, p.key, flowKeys())
	}
}

func (m *mm2) leftoverOfFlow(p *property) {
	source, target, key := m.flowOf(p.key)
	for _, alias := range []string{source, target} {
		if m.known(alias) {
			continue
		}
		hint := ""
		if near := nearest(alias, m.aliases); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		m.bad(p, "is of the cluster %q, which is not one of clusters%s", alias, hint)
		return
	}
	if source == target {
		m.bad(p, "goes from %s to itself; a flow copies from one cluster to another one", source)
		return
	}
	prefix, base := cutClient(key)
	switch e := m.props[source+"->"+target+".enabled"]; {
	case key == "enable":
		m.bad(p, "is not a key; write %s->%s.enabled", source, target)
	case e == nil || !strings.EqualFold(e.value, "true"):
		m.note(p, fmt.Sprintf("the flow %s->%s is not enabled; milena's heartbeats are those of the flows that are", source, target))
	case m.refused(p, base):
	case prefix != "" && isConnection(base):
		alias := source
		if strings.HasPrefix(prefix, "target.") || strings.HasPrefix(prefix, "producer.") {
			alias = target
		}
		m.compare(p, alias, base)
	default:
		m.explain(p, base, flowKeys())
	}
}

// cutClient takes the prefix of a client from a key.
func cutClient(key string) (prefix, base string) {
	switch key {
	case "admin.timeout.ms", "admin.listeners", "consumer.poll.timeout.ms": // the connectors' own
		return "", key
	}
	for _, prefix := range clientPrefixes() {
		if base, ok := strings.CutPrefix(key, prefix); ok {
			return prefix, base
		}
	}
	return "", key
}

// isConnection says whether a key decides how a cluster is reached.
func isConnection(key string) bool {
	switch key {
	case "bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.jaas.config", "ssl.key.password":
		return true
	default:
		return strings.HasPrefix(key, "ssl.truststore.") || strings.HasPrefix(key, "ssl.keystore.")
	}
}

// compare refuses a connection setting of one client that differs from that of its cluster: there is one way to a cluster.
func (m *mm2) compare(p *property, alias, key string) {
	if all := m.first(alias+"."+key, key); all == nil || all.value != p.value {
		m.bad(p, "differs from %s.%s, and milena reaches a cluster in one way; write it there, and remove this key", alias, key)
		return
	}
	m.used[p] = true
}

// refused says whether a client's key would run code that changes records or logins.
func (m *mm2) refused(p *property, key string) bool {
	if key != "interceptor.classes" || strings.TrimSpace(p.value) == "" {
		return false
	}
	m.bad(p, "is Java code that milena can't run; it copies records as they are, so change them behind the copy and remove the key")
	return true
}

// flowKeys are the keys of MirrorMaker 2's connectors that decide what is copied. They are read at the top of the file and
// for one flow.
func flowKeys() []string {
	return []string{
		"topics", "topics.exclude", "topics.blacklist", "groups", "groups.exclude", "groups.blacklist",
		"config.properties.exclude", "config.properties.blacklist", "replication.factor", "replication.policy.class",
		"replication.policy.separator", "replication.policy.internal.topic.separator.enabled",
		"refresh.topics.enabled", "refresh.topics.interval.seconds", "sync.topic.configs.enabled",
		"sync.topic.configs.interval.seconds", "sync.topic.acls.enabled", "sync.topic.acls.interval.seconds", "sync.group.offsets.enabled", "sync.group.offsets.interval.seconds",
		"emit.checkpoints.enabled", "emit.checkpoints.interval.seconds", "emit.heartbeats.enabled",
		"emit.heartbeats.interval.seconds", "emit.offset-syncs.enabled", "offset-syncs.topic.location",
		"heartbeats.replication.enabled", "topic.filter.class", "group.filter.class", "config.property.filter.class",
		"transforms", "predicates", "enabled",
	}
}

// explain notes why a key has no effect. One that looks like a key of the list, misspelt, is an error: somebody believes
// that it selects topics.
func (m *mm2) explain(p *property, key string, meant []string) {
	switch key {
	case "topics.whitelist", "groups.whitelist", "rename.topics":
		instead := strings.TrimSuffix(key, ".whitelist")
		if key == "rename.topics" {
			instead = "milena.yaml with naming: rename"
		}
		m.bad(p, "is no key of MirrorMaker 2, which ignores it; use %s", instead)
		return
	case "emit.heartbeats", "emit.checkpoints", "sync.group.offsets", "refresh.topics", "sync.topic.configs", "sync.topic.acls":
		m.bad(p, "is no key of MirrorMaker 2, which ignores it; write %s.enabled", p.key)
		return
	}
	if reason := reasonOf(key); reason != "" {
		m.note(p, reason)
		return
	}
	if near := nearest(key, meant); near != "" && distance(key, near) <= 2 {
		m.bad(p, "has no effect: the key is not known; did you mean %q?", strings.TrimSuffix(p.key, key)+near)
		return
	}
	m.note(p, "is not known to milena; what only milena has is set in a milena.yaml, as convert writes one")
}

// reasonOf says why a key that MirrorMaker 2 or one of its clients knows has no effect, or is "".
func reasonOf(key string) string {
	for _, known := range []struct {
		keys   string // words that end with a dot are prefixes
		reason string
	}{
		{"name connector.class plugin.path plugin.discovery tasks.max tasks.max.enforce task. worker. config.action.reload", "there are no connectors and tasks: one process does all partitions of a flow"},
		{"dedicated.mode.enable.internal.rest listeners rest. access.control. response.http.headers.config admin.listeners listeners. ssl.client.auth", "there is no REST server; http.listen in milena.yaml is where the status page and metrics are"},
		{"offset.storage. config.storage. status.storage. offset.flush.interval.ms offset.flush.timeout.ms offset.storage.partitions", "positions are in a journal of milena on the target; those of MirrorMaker 2 are only read, to go on there"},
		{"group.id group.instance.id connect.protocol scheduled.rebalance.max.delay.ms rebalance.timeout.ms session.timeout.ms heartbeat.interval.ms task.shutdown.graceful.timeout.ms inter.worker. max.poll.interval.ms partition.assignment.strategy group.protocol", "there is no Connect cluster and no consumer group: a lease on the target says who copies"},
		{"exactly.once.source.support exactly.once.support transaction.boundary transaction.boundary.interval.ms transactional.id transaction.timeout.ms enable.idempotence acks retries max.in.flight.requests.per.connection delivery.timeout.ms max.block.ms", "every record is copied exactly once, acknowledged by all replicas and in order, always"},
		{"batch.size linger.ms buffer.memory compression.type compression.gzip.level compression.lz4.level compression.zstd.level max.request.size partitioner.class partitioner.", "batches are written as the source has them, with their codec, size and partition"},
		{"fetch.max.bytes fetch.min.bytes fetch.max.wait.ms max.partition.fetch.bytes max.poll.records receive.buffer.bytes send.buffer.bytes consumer.poll.timeout.ms", "fetches are sized from buffer in milena.yaml"},
		{"enable.auto.commit auto.commit.interval.ms allow.auto.create.topics check.crcs exclude.internal.topics key.deserializer value.deserializer key.serializer value.serializer isolation.level auto.offset.reset", "has no effect on this client"},
		{"admin.timeout.ms request.timeout.ms default.api.timeout.ms connections.max.idle.ms reconnect.backoff.ms reconnect.backoff.max.ms retry.backoff.ms retry.backoff.max.ms socket.connection.setup.timeout.ms socket.connection.setup.timeout.max.ms metadata.max.age.ms metadata.max.idle.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms client.dns.lookup client.rack client.id", "milena's clients have times and a behaviour of their own"},
		{"metric.reporters metric.names.formats metrics. metrics.num.samples metrics.recording.level metrics.sample.window.ms auto.include.jmx.reporter add.source.alias.to.metrics enable.metrics.push", "metrics are served for Prometheus on /metrics"},
		{"refresh.groups.enabled refresh.groups.interval.seconds", "groups are looked for in every pass over their positions"},
		{"offset.lag.max offset-syncs.topic.replication.factor checkpoints.topic.replication.factor heartbeats.topic.replication.factor", "these topics are kept as milena needs them, with the brokers' default of replicas"},
		{"offset-syncs. use.incremental.alter.configs topic.creation. topic.creation.enable", "topics are made like those of the source, and altered incrementally"},
		{"errors. error.", "what happens with records that can't be copied is said by anomalies in milena.yaml"},
		{"use.defaults.from", "has no effect here, in MirrorMaker 2 neither; write it for one flow, as in a->b.use.defaults.from"},
		{"ssl.protocol ssl.enabled.protocols ssl.cipher.suites ssl.provider ssl.keymanager.algorithm ssl.trustmanager.algorithm ssl.secure.random.implementation security.providers", "TLS is Go's, 1.2 or 1.3 with its own choice of ciphers"},
		{"security.protocol ssl. sasl.", "the connection to the cluster does not need it"},
		{"transforms. predicates. key.converter. value.converter. header.converter. topic.filter. group.filter. replication.policy. source.cluster. target.cluster.", "belongs to a key that is not used"},
		{"config.providers interceptor.classes", "is empty"},
	} {
		for word := range strings.FieldsSeq(known.keys) {
			if key == word || strings.HasSuffix(word, ".") && strings.HasPrefix(key, word) {
				return known.reason
			}
		}
	}
	return ""
}
