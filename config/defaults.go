package config

import (
	"reflect"
	"time"
)

// Default is the Config of an empty file: no clusters and no flows yet. Code that builds a Config by hand begins here.
func Default() Config {
	return Config{
		HTTP: HTTP{Listen: "127.0.0.1:9644"}, // loopback: the pages tell topic names, and nobody is asked for a password
		Log:  Log{Level: "info", Format: "auto"},
		// Two fetches of 16 MiB, one arriving while the other is written, keep a link of 10 ms and 10 Gbit/s busy.
		Buffer: 32 * MiB,
		// Batches in flight are answered in milliseconds by a healthy target; this is for one that is not.
		ShutdownTimeout: 30 * time.Second,
	}
}

// DefaultCluster is a Cluster with nothing written but its name.
func DefaultCluster() Cluster {
	return Cluster{ClientID: "milena"}
}

// DefaultFlow is the Flow between two aliases when nothing else is written about it.
func DefaultFlow(source, target string) Flow {
	return Flow{
		Name:   source + "-" + target,
		Source: source,
		Target: target,
		Topics: []string{".*"},
		// What MirrorMaker 2 4.x leaves out: bookkeeping of its own and of the brokers.
		TopicsExclude: []string{`mm2.*\.internal`, `.*\.replica`, `__.*`},
		Naming:        NamingPrefix,
		Separator:     ".",
		Start:         StartEarliest,
		Isolation:     ReadCommitted,
		// MirrorMaker 2's list: configs that describe the source's brokers and not the topic's data.
		ConfigsExclude: []string{
			`follower\.replication\.throttled\.replicas`,
			`leader\.replication\.throttled\.replicas`,
			`message\.timestamp\.difference\.max\.ms`,
			`message\.timestamp\.type`,
			`unclean\.leader\.election\.enable`,
			`min\.insync\.replicas`,
		},
		UseDefaultsFrom: DefaultsFromTarget,
		TopicsInterval:  2 * time.Second,  // a new topic is copied within 5 s: looked for, created, fetched
		ConfigsInterval: 30 * time.Second, // one DescribeConfigs of all topics; people change these by hand
		// Off, unlike MirrorMaker 2: it needs the right to change all ACLs of the target, and where an operator or a pipeline
		// owns those, both would undo each other's work.
		ACLs:            false,
		ACLsInterval:    30 * time.Second,
		Shards:          64,               // as many owners as a flow can have; 64 small partitions cost nothing
		JournalInterval: 2 * time.Second,  // what a take-over has to read again from the target
		Lease:           10 * time.Second, // longer than a leader election, shorter than a person's patience
		Groups:          []string{".*"},
		// MirrorMaker 2's list: consoles come and go, and Connect's groups belong to one Connect cluster.
		GroupsExclude:      []string{`console-consumer-.*`, `connect-.*`, `__.*`},
		GroupsSync:         true,
		GroupsInterval:     5 * time.Second,   // what a group commits between two looks is read again after a fail-over
		HeartbeatsInterval: time.Second,       // as MirrorMaker 2
		OffsetSyncs:        OffsetSyncsTarget, // the source needs no more rights than it must; only a returning MirrorMaker 2 reads it
		Anomalies:          defaultAnomalies(),
	}
}

// AnomalyKinds are the kinds of anomaly that a flow can decide about, in the order in which documentation lists them.
func AnomalyKinds() []string {
	return []string{
		"recreated", "retention_gap", "truncated", "foreign_write", "target_recreated", "shrunk", "record_too_large",
		"record_refused", "target_not_empty",
	}
}

// AnomalyActions are the actions that make sense for a kind of anomaly; the first is the default. It is empty for a kind
// that doesn't exist.
func AnomalyActions(kind string) []string {
	switch kind {
	case "recreated":
		return []string{"halt", "restart", "skip"}
	case "target_recreated":
		return []string{"halt", "restart"} // nothing to skip: the copy is gone
	case "retention_gap", "truncated", "foreign_write", "shrunk", "record_too_large", "record_refused", "target_not_empty":
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

// defaultsOf gives the defaults of one struct type as the mapping a user could have written, or nil if it has none. Names
// of flows are absent: they depend on what is written beside them.
func defaultsOf(t reflect.Type) map[string]any {
	var written map[string]any
	switch t {
	case reflect.TypeFor[Config]():
		written = toMap(reflect.ValueOf(Default()))
		delete(written, "clusters")
		delete(written, "flows")
	case reflect.TypeFor[Cluster]():
		written = map[string]any{"client_id": DefaultCluster().ClientID}
	case reflect.TypeFor[Flow]():
		written = toMap(reflect.ValueOf(DefaultFlow("", "")))
		for _, key := range []string{"name", "source", "target", "rename"} {
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
		default:
			out[key] = f.Interface()
		}
	}
	return out
}
