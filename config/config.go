package config

import "time"

// The ways to name a topic on the target.
const (
	// NamingPrefix puts the source's alias and the separator in front of the topic's name, as MirrorMaker 2 does.
	NamingPrefix = "prefix"
	// NamingIdentity keeps the topic's name.
	NamingIdentity = "identity"
	// NamingRename takes the name from the flow's rename table. Topics that are not in the table are not copied.
	NamingRename = "rename"
)

// Where MirrorMaker 2's offset-syncs topic is kept.
const (
	OffsetSyncsTarget = "target"
	OffsetSyncsSource = "source"
	OffsetSyncsOff    = "off"
)

// Where the remote topic takes the value of a config that the source topic does not set (KIP-894).
const (
	DefaultsFromTarget = "target"
	DefaultsFromSource = "source"
)

// Where the copy of a topic starts that was never copied before.
const (
	StartEarliest = "earliest"
	StartLatest   = "latest"
)

// Which transactional records are copied.
const (
	ReadCommitted   = "read_committed"
	ReadUncommitted = "read_uncommitted"
)

// What keeps an earlier owner of a shard from writing.
const (
	// FenceTransactions lets the transaction coordinator of the target fence it.
	FenceTransactions = "transactions"
	// FenceLease relies on the group of the instances and the lease, for a target without transactions.
	FenceLease = "lease"
)

// How many processes share a flow.
const (
	// InstancesMany lets any number of processes be a consumer group on the target, which divides the shards among them.
	InstancesMany = "many"
	// InstancesOne is for one process and needs no group.
	InstancesOne = "one"
)

// Config is the whole configuration with defaults filled in. It holds plain values; clients are built elsewhere.
type Config struct {
	// Clusters by alias. The alias is the prefix of the topics that are copied from the cluster.
	Clusters map[string]Cluster `koanf:"clusters"`
	// Flows are the directions to copy. Each flow reads one cluster and writes to another.
	Flows []Flow `koanf:"flows"`
	// HTTP configures the status page, metrics and health endpoints.
	HTTP HTTP `koanf:"http"`
	// Log configures the log level and format.
	Log Log `koanf:"log"`
	// Metrics configures which series /metrics has.
	Metrics Metrics `koanf:"metrics"`
	// OTel sends metrics and traces to an OpenTelemetry collector.
	OTel OTel `koanf:"otel"`
	// Buffer limits the bytes of batches that one flow holds in memory.
	Buffer Bytes `koanf:"buffer"`
	// ShutdownTimeout limits how long a clean shutdown waits for batches in flight.
	ShutdownTimeout time.Duration `koanf:"shutdown_timeout"`
	// Instance is the id of this process among those that run the same flows. If empty, the environment variable POD_NAME is, or else the host name
	// with the address of HTTP.
	Instance string `koanf:"instance"`
}

// Cluster is the connection to one Kafka cluster.
type Cluster struct {
	// Brokers are the bootstrap addresses, host:port. One that answers is enough.
	Brokers []string `koanf:"brokers"`
	// ClientID is the client id that brokers use in logs and quotas.
	ClientID string `koanf:"client_id"`
	// TLS is nil for plaintext.
	TLS *TLS `koanf:"tls"`
	// SASL is nil without authentication.
	SASL *SASL `koanf:"sasl"`
}

// Flow is one direction of replication.
type Flow struct {
	// Name is unique. It is part of the name of the journal topic and of the transactional ids. Default:
	// "<source>-<target>".
	Name string `koanf:"name"`
	// Source and Target are aliases of Clusters.
	Source string `koanf:"source"`
	Target string `koanf:"target"`
	// Topics and TopicsExclude are regular expressions that match whole topic names. TopicsExclude wins.
	Topics        []string `koanf:"topics"`
	TopicsExclude []string `koanf:"topics_exclude"`
	// Naming is prefix, identity or rename.
	Naming string `koanf:"naming"`
	// Separator is between the alias and the topic's name when Naming is prefix.
	Separator string `koanf:"separator"`
	// Rename maps source topics to target topics when Naming is rename. Only the topics in it are copied.
	Rename map[string]string `koanf:"rename"`
	// Start is where the copy of a topic starts that was never copied before: earliest or latest.
	Start string `koanf:"start"`
	// Isolation is read_committed or read_uncommitted.
	Isolation string `koanf:"isolation"`
	// ReplicationFactor of created topics. With 0 a copy has that of its source, as far as the target has brokers; with -1 the target's brokers
	// decide.
	ReplicationFactor int16 `koanf:"replication_factor"`
	// ConfigsExclude are regular expressions of topic config names that are never copied.
	ConfigsExclude []string `koanf:"configs_exclude"`
	// UseDefaultsFrom decides about a config that the source topic does not set. With target, the target's default
	// applies. With source, the value in force on the source is set on the remote topic (KIP-894).
	UseDefaultsFrom string `koanf:"use_defaults_from"`
	// TopicsRefresh finds topics and partitions that are created after the start. Without it they wait for a restart.
	TopicsRefresh bool `koanf:"topics_refresh"`
	// TopicsInterval is the interval of the topic sync, which finds new topics and partitions.
	TopicsInterval time.Duration `koanf:"topics_interval"`
	// ConfigsSync keeps the configs of remote topics as on the source. Without it they are set only when a remote topic is
	// created.
	ConfigsSync bool `koanf:"configs_sync"`
	// ConfigsInterval is the interval of the sync of topic configs.
	ConfigsInterval time.Duration `koanf:"configs_interval"`
	// ACLs copies the ACLs of the copied topics, as far as consumers need them.
	ACLs bool `koanf:"acls"`
	// ACLsLiteral copies the ALLOW ACLs of single topics only, not those of prefixes and of all topics, as MirrorMaker 2 does.
	ACLsLiteral bool `koanf:"acls_literal"`
	// ACLsAdmin also copies ACLs that allow DELETE, ALTER and ALTER_CONFIGS.
	ACLsAdmin bool `koanf:"acls_admin"`
	// ACLsDelete also deletes ACLs of remote topics that the source does not have.
	ACLsDelete bool `koanf:"acls_delete"`
	// ACLsInterval is the interval of the ACL sync.
	ACLsInterval time.Duration `koanf:"acls_interval"`
	// Shards is the number of partitions of the journal topic. It cannot change once the journal exists.
	Shards int32 `koanf:"shards"`
	// Instances is many or one: whether several processes share the flow.
	Instances string `koanf:"instances"`
	// Fence is transactions or lease: what keeps an earlier owner of a shard from writing.
	Fence string `koanf:"fence"`
	// JournalInterval is the interval at which progress is journaled.
	JournalInterval time.Duration `koanf:"journal_interval"`
	// Lease is how long an owner may write without confirmation that it still is the owner.
	Lease time.Duration `koanf:"lease"`
	// Groups and GroupsExclude are regular expressions that match whole names of consumer groups. GroupsExclude wins.
	// The committed offsets of the selected groups are translated.
	Groups        []string `koanf:"groups"`
	GroupsExclude []string `koanf:"groups_exclude"`
	// GroupsRefresh finds groups that appear after the start. Without it they wait for a restart.
	GroupsRefresh bool `koanf:"groups_refresh"`
	// Checkpoints writes the translated offsets to MirrorMaker 2's checkpoints topic on the target.
	Checkpoints bool `koanf:"checkpoints"`
	// GroupsSync also commits the translated offsets on the target, unless the group is active there.
	GroupsSync bool `koanf:"groups_sync"`
	// GroupsBack are regular expressions that match whole names of groups whose home is the target: after one of them has
	// consumed copies on the source, it is moved back to where it stands there. That needs a flow in the other direction,
	// which put it on the source. None by default.
	GroupsBack []string `koanf:"groups_back"`
	// GroupsInterval is the interval of the group sync.
	GroupsInterval time.Duration `koanf:"groups_interval"`
	// Heartbeats writes MirrorMaker 2's heartbeats to both clusters.
	Heartbeats bool `koanf:"heartbeats"`
	// HeartbeatsInterval is the interval at which heartbeats are written.
	HeartbeatsInterval time.Duration `koanf:"heartbeats_interval"`
	// OffsetSyncs is the cluster that holds MirrorMaker 2's offset-syncs topic: target, source or off (KIP-716).
	OffsetSyncs string `koanf:"offset_syncs"`
	// InternalSeparator is used in the names of MirrorMaker 2's internal topics. If empty, Separator is used
	// (KIP-949).
	InternalSeparator string `koanf:"internal_separator"`
	// Provenance adds a header with the source's cluster id to each record, and leaves out records that come from the
	// target, so that identity naming can be used in both directions. Batches are decoded and encoded again.
	Provenance bool `koanf:"provenance"`
	// ReverseOf is the name of the flow in the other direction that this one is the way back of: both copy the same topics with identity naming, and at most
	// one of them is active. It is stopped until somebody starts it.
	ReverseOf string `koanf:"reverse_of"`
	// Merge makes one batch of many tiny ones while a partition is behind, because a broker takes one batch per partition and request.
	Merge bool `koanf:"merge"`
	// MigrateFrom makes the flow migrate from MirrorMaker 2: it continues MirrorMaker 2's copies instead of starting its
	// own. It is the name of the topic on the target that holds MirrorMaker 2's connector offsets (Kafka Connect's
	// offset.storage.topic). Empty means no migration. The key was take_over before, which is still read.
	MigrateFrom string `koanf:"migrate_from"`
	// Verify is the verification of the copies in the background.
	Verify Verify `koanf:"verify"`
	// RPO is the recovery point objective: how old the time may be up to which the copy is complete. Nil if there is none.
	RPO *time.Duration `koanf:"rpo"`
	// RTO is the recovery time objective: how long a failover may take. Nil if there is none.
	RTO *time.Duration `koanf:"rto"`
	// Anomalies maps an anomaly's kind to its action: halt, skip or restart.
	Anomalies map[string]string `koanf:"anomalies"`
	// AnomaliesByTopic are other actions for some topics. The first item decides that matches the topic and names the kind.
	AnomaliesByTopic []TopicAnomalies `koanf:"anomalies_by_topic"`
}

// Verify is the verification of the copies of a flow in the background.
type Verify struct {
	// Rate is how many bytes per second all instances together read for it from each of the two clusters. 0 turns it off.
	Rate Bytes `koanf:"rate"`
}

// TopicAnomalies are the actions for the topics that match.
type TopicAnomalies struct {
	// Topics are regular expressions that match whole names of source topics.
	Topics []string `koanf:"topics"`
	// Anomalies maps an anomaly's kind to its action. Kinds that are absent have the flow's action.
	Anomalies map[string]string `koanf:"anomalies"`
}

// The partitions that have series of their own.
const (
	SeriesAll     = "all"
	SeriesLagging = "lagging"
	SeriesNone    = "none"
)

// Metrics says which series /metrics has.
type Metrics struct {
	// Partitions is all, lagging or none: which partitions have series of their own, about eight each. Lagging ones are those with lag, and those
	// that are halted, wait, or have a lag that is not known. Sums by topic and flow count all partitions in any case.
	Partitions string `koanf:"partitions"`
}

// OTel is where metrics and traces go besides /metrics.
type OTel struct {
	// Endpoint is the URL of a receiver of OTLP over HTTP, such as http://collector:4318. Empty sends nothing. Headers, timeouts and the interval are
	// in OpenTelemetry's own environment variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_METRIC_EXPORT_INTERVAL and so on).
	Endpoint string `koanf:"endpoint"`
}

// Log is the level and format of the log.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is text, json, or auto: text on a terminal, else JSON.
	Format string `koanf:"format"`
}
