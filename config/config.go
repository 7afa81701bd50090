package config

import "time"

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

// TLS holds the paths of PEM files. An empty TLS section trusts the system's authorities.
type TLS struct {
	CAFile     string `koanf:"ca_file"`
	CertFile   string `koanf:"cert_file"`
	KeyFile    string `koanf:"key_file"`
	ServerName string `koanf:"server_name"`
}

// SASL authenticates one client. Exactly one of Password and PasswordFile is set.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	Mechanism    string `koanf:"mechanism"`
	Username     string `koanf:"username"`
	Password     Secret `koanf:"password"`
	PasswordFile string `koanf:"password_file"`
}

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
	// TopicsInterval is how often topics and partitions are looked for.
	TopicsInterval time.Duration `koanf:"topics_interval"`
	// ConfigsInterval is how often topic configs are compared.
	ConfigsInterval time.Duration `koanf:"configs_interval"`
	// Shards is the number of partitions of the journal topic. It can't change once the journal exists.
	Shards int32 `koanf:"shards"`
	// JournalInterval is how often progress is journalled.
	JournalInterval time.Duration `koanf:"journal_interval"`
	// Lease is how long an owner may write without a confirmation that it still is the owner.
	Lease time.Duration `koanf:"lease"`
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
