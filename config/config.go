package config

import (
	"fmt"
	"time"
)

// The ways to name a topic on the target.
const (
	// NamingPrefix puts the source's alias and the separator before the topic's name, as MirrorMaker 2 does.
	NamingPrefix = "prefix"
	// NamingIdentity keeps the topic's name.
	NamingIdentity = "identity"
	// NamingRename takes the name from the flow's table, and copies nothing else.
	NamingRename = "rename"
)

// Where MirrorMaker 2's offset-syncs topic is kept.
const (
	OffsetSyncsTarget = "target"
	OffsetSyncsSource = "source"
	OffsetSyncsOff    = "off"
)

// Whose defaults the configs of a copy have that its source topic does not set (KIP-894).
const (
	DefaultsFromTarget = "target"
	DefaultsFromSource = "source"
)

// Where a topic begins that was never copied before.
const (
	StartEarliest = "earliest"
	StartLatest   = "latest"
)

// Which records of transactions are copied.
const (
	ReadCommitted   = "read_committed"
	ReadUncommitted = "read_uncommitted"
)

// The SASL mechanisms a client can use.
const (
	MechanismPlain       = "PLAIN"
	MechanismScramSHA256 = "SCRAM-SHA-256"
	MechanismScramSHA512 = "SCRAM-SHA-512"
)

// Config is everything a user wrote, with defaults filled in. It holds plain values: clients are built elsewhere.
type Config struct {
	// Clusters by alias. An alias is the prefix of topic names copied from that cluster.
	Clusters map[string]Cluster `koanf:"clusters"`
	// Flows are the directions to copy in; each reads one cluster and writes another.
	Flows []Flow `koanf:"flows"`
	// HTTP is the address of the status page, metrics and health endpoints.
	HTTP HTTP `koanf:"http"`
	// Log says what is logged and how.
	Log Log `koanf:"log"`
	// Buffer bounds the bytes of batches held in memory at one time, per flow.
	Buffer Bytes `koanf:"buffer"`
	// ShutdownTimeout bounds how long a clean stop waits for batches in flight.
	ShutdownTimeout time.Duration `koanf:"shutdown_timeout"`
}

// Cluster says how to reach one Kafka cluster.
type Cluster struct {
	// Brokers are the host:port addresses to begin with; one that answers is enough.
	Brokers []string `koanf:"brokers"`
	// ClientID is the name that brokers see in logs and quotas.
	ClientID string `koanf:"client_id"`
	// TLS is nil for plaintext.
	TLS *TLS `koanf:"tls"`
	// SASL is nil without authentication.
	SASL *SASL `koanf:"sasl"`
}

// SASL authenticates one client. Exactly one of Password and PasswordFile is set.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	Mechanism    string `koanf:"mechanism"`
	Username     string `koanf:"username"`
	Password     Secret `koanf:"password"`
	PasswordFile string `koanf:"password_file"`
}

// Format prints the fields with the password hidden. It is here because fmt, given a pointer inside another value and a verb
// like %s, reports a wrong verb and prints what the pointer leads to without asking the fields' own methods.
func (s SASL) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s %s %s}", s.Mechanism, s.Username, hidden, s.PasswordFile)
}

// Secret is the password itself, wherever it is written. A file is read at each call, so that a changed password is found
// by the next connection; one newline at its end is not part of the password, as editors put it there.
func (s SASL) Secret() (string, error) { return readSecret(s.Password, s.PasswordFile) }

// Flow is one direction of copying.
type Flow struct {
	// Name is unique; it names the journal topic and the transactional ids. Default: "<source>-<target>".
	Name string `koanf:"name"`
	// Source and Target are aliases of Clusters.
	Source string `koanf:"source"`
	Target string `koanf:"target"`
	// Topics and TopicsExclude are regular expressions that match whole topic names; exclude wins.
	Topics        []string `koanf:"topics"`
	TopicsExclude []string `koanf:"topics_exclude"`
	// Naming is prefix, identity or rename.
	Naming string `koanf:"naming"`
	// Separator stands between alias and topic in prefix names.
	Separator string `koanf:"separator"`
	// Rename maps source topics to target topics when Naming is rename; only topics named here are copied.
	Rename map[string]string `koanf:"rename"`
	// Start is where a topic begins that was never copied before: earliest or latest.
	Start string `koanf:"start"`
	// Isolation is read_committed or read_uncommitted.
	Isolation string `koanf:"isolation"`
	// ReplicationFactor of created topics; 0 takes the target brokers' default.
	ReplicationFactor int16 `koanf:"replication_factor"`
	// ConfigsExclude are regular expressions of topic config names that are never copied.
	ConfigsExclude []string `koanf:"configs_exclude"`
	// UseDefaultsFrom says what a config that the source topic does not set is on the copy: the target's default, or, with
	// source, the value in force on the source, set on the copy itself (KIP-894).
	UseDefaultsFrom string `koanf:"use_defaults_from"`
	// TopicsInterval is how often topics and partitions are looked for.
	TopicsInterval time.Duration `koanf:"topics_interval"`
	// ConfigsInterval is how often topic configs are compared.
	ConfigsInterval time.Duration `koanf:"configs_interval"`
	// ACLs copies the ACLs of topics that are copied, as far as readers need them.
	ACLs bool `koanf:"acls"`
	// ACLsDelete also deletes from the copies what the source does not have.
	ACLsDelete bool `koanf:"acls_delete"`
	// ACLsInterval is how often ACLs are compared.
	ACLsInterval time.Duration `koanf:"acls_interval"`
	// Shards is the number of partitions of the journal topic. It can't change once the journal exists.
	Shards int32 `koanf:"shards"`
	// JournalInterval is how often progress is journalled.
	JournalInterval time.Duration `koanf:"journal_interval"`
	// Lease is how long an owner may write without a confirmation that it still is the owner.
	Lease time.Duration `koanf:"lease"`
	// Groups and GroupsExclude are regular expressions that match whole names of consumer groups; exclude wins. Their
	// positions are written as checkpoints to the target.
	Groups        []string `koanf:"groups"`
	GroupsExclude []string `koanf:"groups_exclude"`
	// GroupsSync also commits the translated positions on the target, where the group there is not active.
	GroupsSync bool `koanf:"groups_sync"`
	// GroupsInterval is how often groups are looked at.
	GroupsInterval time.Duration `koanf:"groups_interval"`
	// HeartbeatsInterval is how often a heartbeat is written to both clusters; 0 turns them off.
	HeartbeatsInterval time.Duration `koanf:"heartbeats_interval"`
	// OffsetSyncs is the cluster on which MirrorMaker 2's offset-syncs topic is kept: target, source or off (KIP-716).
	OffsetSyncs string `koanf:"offset_syncs"`
	// InternalSeparator stands in the names of MirrorMaker 2's internal topics; empty is as Separator (KIP-949).
	InternalSeparator string `koanf:"internal_separator"`
	// Provenance adds a header with the source cluster's id to each record and leaves out records that were on the target
	// before, so that identity naming may run in both directions. Batches are then decoded and encoded again.
	Provenance bool `koanf:"provenance"`
	// TakeOver makes the flow migrate from MirrorMaker 2: it continues MirrorMaker 2's copies instead of starting its own. It
	// names the topic on the target that holds MirrorMaker 2's connector offsets (Kafka Connect's offset.storage.topic).
	// Empty: no migration. The key was take_over before, which is still read.
	TakeOver string `koanf:"migrate_from"`
	// Anomalies maps an anomaly's kind to its action: halt, skip or restart.
	Anomalies map[string]string `koanf:"anomalies"`
}

// HTTP is where the process listens. An empty Listen turns HTTP off.
type HTTP struct {
	Listen string `koanf:"listen"`
	// PProf serves /debug/pprof/.
	PProf bool `koanf:"pprof"`
}

// Log is how the process logs.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `koanf:"level"`
	// Format is text, json, or auto: text on a terminal, else JSON.
	Format string `koanf:"format"`
}
