package config

import (
	"fmt"
	"slices"
	"strings"
)

// explainUnused reports a property that the Config was not built from: a note if it has no effect or is unknown, a
// problem if it is a mistake.
func (m *mm2) explainUnused(p *property) {
	if strings.Contains(p.key, "->") {
		m.explainUnusedOfFlow(p)
		return
	}
	if p.separator == ' ' && strings.HasPrefix(p.value, "->") || strings.ContainsAny(p.key, "→⇒") {
		m.bad(p, "is no key of a flow, because a key ends at its first blank and has the arrow ->; write a->b.enabled = true")
		return
	}
	alias := ""
	for _, a := range m.aliases {
		if strings.HasPrefix(p.key, a+".") && len(a) > len(alias) {
			alias = a
		}
	}
	if alias == "" {
		m.explainUnusedGlobal(p)
		return
	}
	key := strings.TrimPrefix(p.key, alias+".")
	prefix, base := cutClient(key)
	switch {
	case m.refused(p, base):
	case prefix != "" && isConnection(base):
		m.checkSameConnection(p, alias, base)
	case slices.Contains(flowKeys(), key):
		m.note(p, fmt.Sprintf("has no effect on a cluster, nor does it in MirrorMaker 2; set %s for all flows, or a->b.%s for one", key, key))
	default:
		m.explain(p, base, nil)
	}
}

func (m *mm2) explainUnusedGlobal(p *property) {
	prefix, _ := cutClient(p.key)
	switch alias, key, _ := strings.Cut(p.key, "."); {
	case p.key == "enabled":
		m.bad(p, "does not name a flow; set a->b.enabled = true for each")
	case strings.HasPrefix(p.key, "config.providers."):
		m.note(p, "is not used")
	case slices.Contains(flowKeys(), p.key): // it would have been read
		m.note(p, "has no effect, because no flow is enabled")
	case prefix != "":
		m.note(p, "has no effect without an alias in front, nor does it in MirrorMaker 2")
	case key == "bootstrap.servers":
		m.bad(p, "belongs to cluster %q, which is not in clusters; add it there, or remove the key", alias)
	default:
		m.explain(p, p.key, flowKeys())
	}
}

func (m *mm2) explainUnusedOfFlow(p *property) {
	source, target, key := m.flowOf(p.key)
	for _, alias := range []string{source, target} {
		if m.known(alias) {
			continue
		}
		hint := ""
		if near := Nearest(alias, m.aliases); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		m.bad(p, "belongs to cluster %q, which is not in clusters%s", alias, hint)
		return
	}
	if source == target {
		m.bad(p, "copies %s to itself; a flow copies from one cluster to another", source)
		return
	}
	prefix, base := cutClient(key)
	switch e := m.props[source+"->"+target+".enabled"]; {
	case key == "enable":
		m.bad(p, "is not a key of MirrorMaker 2; use %s->%s.enabled", source, target)
	case e == nil || !strings.EqualFold(e.value, "true"):
		m.note(p, fmt.Sprintf("flow %s->%s is not enabled; milena writes heartbeats only for enabled flows", source, target))
	case m.refused(p, base):
	case prefix != "" && isConnection(base):
		alias := source
		if strings.HasPrefix(prefix, "target.") || strings.HasPrefix(prefix, "producer.") {
			alias = target
		}
		m.checkSameConnection(p, alias, base)
	default:
		m.explain(p, base, flowKeys())
	}
}

// cutClient splits the prefix of a client from a key.
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

// isConnection reports whether a key is part of the connection to a cluster.
func isConnection(key string) bool {
	switch key {
	case "bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.jaas.config", "sasl.login.callback.handler.class",
		"sasl.client.callback.handler.class", "sasl.oauthbearer.token.endpoint.url", "sasl.kerberos.service.name", "ssl.key.password":
		return true
	default:
		return strings.HasPrefix(key, "ssl.truststore.") || strings.HasPrefix(key, "ssl.keystore.")
	}
}

// checkSameConnection refuses a connection setting of one client that differs from that of its cluster: milena has
// one connection config per cluster.
func (m *mm2) checkSameConnection(p *property, alias, key string) {
	if all := m.first(alias+"."+key, key); all == nil || all.value != p.value {
		m.bad(p, "differs from %s.%s, and milena has one connection config per cluster; set it there, and remove this key", alias, key)
		return
	}
	m.used[p] = true
}

// refused reports a client's key that would run code which changes records or logins.
func (m *mm2) refused(p *property, key string) bool {
	if key != "interceptor.classes" || strings.TrimSpace(p.value) == "" {
		return false
	}
	m.bad(p, "is Java code, which milena cannot run; it copies records as they are, so transform them downstream and remove the key")
	return true
}

// flowKeys are the keys of MirrorMaker 2's connectors that decide what is copied. They are read at the top of the
// file and per flow.
func flowKeys() []string {
	return []string{
		"topics", "topics.exclude", "topics.blacklist", "groups", "groups.exclude", "groups.blacklist",
		"config.properties.exclude", "config.properties.blacklist", "replication.factor", "replication.policy.class",
		"replication.policy.separator", "replication.policy.internal.topic.separator.enabled",
		"refresh.topics.enabled", "refresh.topics.interval.seconds", "refresh.groups.enabled", "sync.topic.configs.enabled",
		"sync.topic.configs.interval.seconds", "sync.topic.acls.enabled", "sync.topic.acls.interval.seconds", "sync.group.offsets.enabled", "sync.group.offsets.interval.seconds",
		"emit.checkpoints.enabled", "emit.checkpoints.interval.seconds", "emit.heartbeats.enabled",
		"emit.heartbeats.interval.seconds", "emit.offset-syncs.enabled", "offset-syncs.topic.location",
		"heartbeats.replication.enabled", "topic.filter.class", "group.filter.class", "config.property.filter.class",
		"transforms", "predicates", "enabled",
	}
}

// explain adds a note why a key has no effect. A misspelled key of the list meant is a problem instead: somebody
// believes that it selects topics.
func (m *mm2) explain(p *property, key string, meant []string) {
	switch key {
	case "topics.whitelist", "groups.whitelist", "rename.topics":
		instead := strings.TrimSuffix(key, ".whitelist")
		if key == "rename.topics" {
			instead = "milena.yaml with naming: rename"
		}
		m.bad(p, "is not a key of MirrorMaker 2, which ignores it; use %s", instead)
		return
	case "emit.heartbeats", "emit.checkpoints", "sync.group.offsets", "refresh.topics", "refresh.groups", "sync.topic.configs", "sync.topic.acls":
		m.bad(p, "is not a key of MirrorMaker 2, which ignores it; use %s.enabled", p.key)
		return
	}
	if reason := reasonOf(key); reason != "" {
		m.note(p, reason)
		return
	}
	if near := Nearest(key, meant); near != "" && distance(key, near) <= 2 {
		m.bad(p, "has no effect: unknown key; did you mean %q?", strings.TrimSuffix(p.name(), key)+near)
		return
	}
	m.note(p, "is unknown to milena; settings that only milena has go into a milena.yaml, which convert writes")
}

// reasonOf says why a key that MirrorMaker 2 or one of its clients knows has no effect, or returns "".
func reasonOf(key string) string {
	for _, known := range []struct {
		keys   string // words that end with a dot are prefixes
		reason string
	}{
		{"name connector.class plugin.path plugin.discovery tasks.max tasks.max.enforce task. worker. config.action.reload", "milena has no connectors and tasks: one process copies all partitions of a flow"},
		{"dedicated.mode.enable.internal.rest listeners rest. access.control. response.http.headers.config admin.listeners listeners. ssl.client.auth", "milena has no REST API; http.listen in milena.yaml sets the address of the status page and metrics"},
		{"offset.storage. config.storage. status.storage. offset.flush.interval.ms offset.flush.timeout.ms offset.storage.partitions", "milena keeps its offsets in a journal on the target; it reads MirrorMaker 2's connector offsets only to migrate"},
		{"group.id group.instance.id connect.protocol scheduled.rebalance.max.delay.ms rebalance.timeout.ms session.timeout.ms heartbeat.interval.ms task.shutdown.graceful.timeout.ms inter.worker. max.poll.interval.ms partition.assignment.strategy group.protocol", "milena uses no Connect cluster; its instances have a consumer group of their own on the target, see the key instances"},
		{"exactly.once.source.support exactly.once.support transaction.boundary transaction.boundary.interval.ms transactional.id transaction.timeout.ms enable.idempotence acks retries max.in.flight.requests.per.connection delivery.timeout.ms max.block.ms", "milena always copies every record exactly once, in order, with acks=all"},
		{"batch.size linger.ms buffer.memory compression.type compression.gzip.level compression.lz4.level compression.zstd.level max.request.size partitioner.class partitioner.", "milena copies batches with the codec, size and partition that they have on the source"},
		{"fetch.max.bytes fetch.min.bytes fetch.max.wait.ms max.partition.fetch.bytes max.poll.records receive.buffer.bytes send.buffer.bytes consumer.poll.timeout.ms", "the size of fetches follows from buffer in milena.yaml"},
		{"enable.auto.commit auto.commit.interval.ms allow.auto.create.topics check.crcs exclude.internal.topics key.deserializer value.deserializer key.serializer value.serializer isolation.level auto.offset.reset", "has no effect on this client"},
		{"admin.timeout.ms request.timeout.ms default.api.timeout.ms connections.max.idle.ms reconnect.backoff.ms reconnect.backoff.max.ms retry.backoff.ms retry.backoff.max.ms socket.connection.setup.timeout.ms socket.connection.setup.timeout.max.ms metadata.max.age.ms metadata.max.idle.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms client.dns.lookup client.rack client.id", "milena's clients have their own timeouts and behavior"},
		{"metric.reporters metric.names.formats metrics. metrics.num.samples metrics.recording.level metrics.sample.window.ms auto.include.jmx.reporter add.source.alias.to.metrics enable.metrics.push", "metrics are in Prometheus format on /metrics"},
		{"refresh.groups.interval.seconds", "every group sync finds new groups"},
		{"offset.lag.max offset-syncs.topic.replication.factor checkpoints.topic.replication.factor heartbeats.topic.replication.factor", "milena creates these topics with the configs it needs, and as many replicas as replication.factor says"},
		{"offset-syncs. use.incremental.alter.configs topic.creation. topic.creation.enable", "remote topics are created like those of the source, and altered incrementally"},
		{"errors. error.", "anomalies in milena.yaml decides what happens to records that cannot be copied"},
		{"use.defaults.from", "has no effect here, nor does it in MirrorMaker 2; set it per flow, such as a->b.use.defaults.from"},
		{"ssl.protocol ssl.enabled.protocols ssl.cipher.suites ssl.provider ssl.keymanager.algorithm ssl.trustmanager.algorithm ssl.secure.random.implementation security.providers", "milena uses Go's TLS, version 1.2 or 1.3, with Go's choice of ciphers"},
		{"sasl.kerberos.", "milena asks the KDC itself, for each connection"},
		{"security.protocol ssl. sasl.", "the connection to the cluster does not use it"},
		{"transforms. predicates. key.converter. value.converter. header.converter. topic.filter. group.filter. replication.policy. source.cluster. target.cluster.", "belongs to a key that is not set"},
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
