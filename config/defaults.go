package config

import (
	"reflect"
	"time"
)

// Default is the Config of an empty file: no clusters and no flows. Code that builds a Config starts from it.
func Default() Config {
	return Config{
		HTTP:    HTTP{Listen: "127.0.0.1:9644", Hosts: []string{}, Open: []string{}, Tokens: map[string]Secret{}, Users: map[string]Secret{}}, // loopback needs no login
		Log:     Log{Level: "info", Format: "auto"},
		Metrics: Metrics{Partitions: SeriesAll},
		// Two fetches of 16 MiB, one arriving while the other is written, saturate a link of 10 ms and 10 Gbit/s.
		Buffer: 32 * MiB,
		// A healthy target acknowledges batches in flight in milliseconds. The timeout is for an unhealthy one.
		ShutdownTimeout: 30 * time.Second,
	}
}

// DefaultCluster is a Cluster whose keys are all absent.
func DefaultCluster() Cluster {
	return Cluster{ClientID: "milena"}
}

// DefaultTLS is a TLS section whose keys are all absent.
func DefaultTLS() TLS { return TLS{Verify: VerifyFull} }

// DefaultKerberos is a Kerberos whose keys are all absent.
func DefaultKerberos() Kerberos { return Kerberos{ServiceName: "kafka", Krb5Conf: "/etc/krb5.conf"} }

// DefaultFlow is the Flow between two aliases whose other keys are all absent.
func DefaultFlow(source, target string) Flow {
	return Flow{
		Name:   source + "-" + target,
		Source: source,
		Target: target,
		Topics: []string{".*"},
		// The list of MirrorMaker 2 4.x: its own internal topics and those of the brokers.
		TopicsExclude: []string{`mm2.*\.internal`, `.*\.replica`, `__.*`},
		Naming:        NamingPrefix,
		Separator:     ".",
		Start:         StartEarliest,
		Isolation:     ReadCommitted,
		// MirrorMaker 2's list: configs that describe the source's brokers, not the topic's data.
		ConfigsExclude: []string{
			`follower\.replication\.throttled\.replicas`,
			`leader\.replication\.throttled\.replicas`,
			`message\.timestamp\.difference\.max\.ms`,
			`message\.timestamp\.type`,
			`unclean\.leader\.election\.enable`,
			`min\.insync\.replicas`,
		},
		UseDefaultsFrom: DefaultsFromTarget,
		TopicsRefresh:   true,
		TopicsInterval:  2 * time.Second, // a new topic is copied within 5 s: found, created, fetched
		ConfigsSync:     true,
		ConfigsInterval: 3 * time.Second, // a changed config arrives within 5 s; with many topics a pass takes longer, and the next one waits longer
		// Off, unlike in MirrorMaker 2: it needs the right to change all ACLs of the target, and where an operator or a pipeline
		// manages those, the two would undo each other's changes.
		ACLs:            false,
		ACLsInterval:    30 * time.Second,
		Shards:          64, // the maximum number of owners of a flow; 64 small partitions cost nothing
		Instances:       InstancesMany,
		Fence:           FenceTransactions,
		JournalInterval: 2 * time.Second, // limits what a takeover has to read from the target
		// Longer than it takes a cluster to leave out a broker that hangs, because no journal write and no fence is complete before
		// (broker.session.timeout.ms, 9 s by default). Shorter than it takes brokers to forget a producer of old records
		// (producer.id.expiration.check.interval.ms, 10 min).
		Lease:  15 * time.Second,
		Groups: []string{".*"},
		// MirrorMaker 2's list: groups of console consumers are temporary, and Connect's groups belong to one Connect cluster.
		GroupsExclude:      []string{`console-consumer-.*`, `connect-.*`, `__.*`},
		GroupsRefresh:      true,
		Checkpoints:        true,
		GroupsSync:         true,
		GroupsBack:         []string{},      // a group's home is moved only if somebody asked for it
		GroupsInterval:     5 * time.Second, // after a failover a group re-reads what it committed since the last sync
		Heartbeats:         true,
		Merge:              true,
		HeartbeatsInterval: time.Second,       // as MirrorMaker 2
		OffsetSyncs:        OffsetSyncsTarget, // needs no write rights on the source; only MirrorMaker 2 after a rollback reads it
		Anomalies:          defaultAnomalies(),
	}
}

// AnomalyKinds are the anomaly kinds that can be set in a flow, in the order of the documentation.
func AnomalyKinds() []string {
	return []string{
		"recreated", "retention_gap", "truncated", "foreign_write", "target_recreated", "shrunk", "record_too_large",
		"record_refused", "target_not_empty", "unmatched", "tombstones_cleaned",
	}
}

// AnomalyActions are the actions that are allowed for an anomaly kind. The first is the default. It returns nil for
// an unknown kind.
func AnomalyActions(kind string) []string {
	switch kind {
	case "recreated":
		return []string{"halt", "restart", "skip"}
	case "target_recreated":
		return []string{"halt", "restart"} // the copy is gone, so there is nothing to skip
	case "retention_gap", "truncated", "foreign_write", "shrunk", "record_too_large", "record_refused", "target_not_empty", "unmatched",
		"tombstones_cleaned":
		return []string{"halt", "skip"}
	default:
		return nil
	}
}

func defaultAnomalies() map[string]string {
	actions := make(map[string]string)
	for _, kind := range AnomalyKinds() {
		actions[kind] = AnomalyActions(kind)[0]
	}
	return actions
}

// defaultsOf returns the defaults of one struct type as the mapping that a user could have written, or nil if it has
// none. The name of a flow is absent because it depends on other keys.
func defaultsOf(t reflect.Type) map[string]any {
	var written map[string]any
	switch t {
	case reflect.TypeFor[Config]():
		written = toMap(reflect.ValueOf(Default()))
		delete(written, "clusters")
		delete(written, "flows")
	case reflect.TypeFor[Cluster]():
		written = map[string]any{"client_id": DefaultCluster().ClientID}
	case reflect.TypeFor[TLS]():
		written = map[string]any{"verify": DefaultTLS().Verify}
	case reflect.TypeFor[Kerberos]():
		written = toMap(reflect.ValueOf(DefaultKerberos()))
	case reflect.TypeFor[Flow]():
		written = toMap(reflect.ValueOf(DefaultFlow("", "")))
		for _, key := range []string{"name", "source", "target", "rename", "anomalies_by_topic"} {
			delete(written, key)
		}
	}
	return written
}

// toMap turns a struct into the nested mapping that koanf decodes back into it.
func toMap(v reflect.Value) map[string]any {
	out := make(map[string]any)
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("koanf")
		f := v.Field(i)
		switch f.Kind() { //nolint:exhaustive // every other kind is a plain value
		case reflect.Struct:
			out[key] = toMap(f)
		case reflect.Slice:
			list := make([]any, f.Len())
			for j := range list {
				list[j] = f.Index(j).Interface()
			}
			out[key] = list
		case reflect.Map:
			m := make(map[string]any)
			for it := f.MapRange(); it.Next(); {
				m[it.Key().String()] = it.Value().Interface()
			}
			out[key] = m
		case reflect.Pointer:
			if !f.IsNil() {
				out[key] = f.Interface()
			}
		default:
			out[key] = f.Interface()
		}
	}
	return out
}
