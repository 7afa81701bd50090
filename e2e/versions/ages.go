package versions

import "github.com/milena-kafka/milena/e2e/kafka"

// Age is a version of Kafka and how its brokers are configured.
type Age struct {
	Name    string
	Options kafka.Options
	// OldFormat says that a topic of such a cluster can have record format v1.
	OldFormat bool
	// NewGroups says that it has share groups and Streams groups.
	NewGroups bool
}

// Kafka11 is the oldest source.
func Kafka11() Age {
	return Age{Name: "1.1.1", Options: kafka.Options{Version: "1.1.1"}, OldFormat: true}
}

// Kafka28 is the oldest target.
func Kafka28() Age {
	return Age{Name: "2.8.2", Options: kafka.Options{Version: "2.8.2"}, OldFormat: true}
}

// Kafka39ZooKeeper is the last version that can have ZooKeeper.
func Kafka39ZooKeeper() Age {
	return Age{Name: "3.9.1 ZooKeeper", Options: kafka.Options{Version: "3.9.1"}}
}

// Kafka39Before28 offers requests with topic ids, but its topics have none.
func Kafka39Before28() Age { return Age{Name: "3.9.1 IBP 2.7", Options: before28(1), OldFormat: true} }

// Kafka39KRaft has no ZooKeeper.
func Kafka39KRaft() Age {
	return Age{Name: "3.9.1 KRaft", Options: kafka.Options{Version: "3.9.1", KRaft: true}}
}

// Kafka43 is the version of most tests.
func Kafka43() Age {
	return Age{Name: kafka.Version, Options: kafka.Options{Version: kafka.Version}, NewGroups: true}
}

// Kafka44 is the newest version.
func Kafka44() Age {
	return Age{Name: kafka.Newest, Options: kafka.Options{Version: kafka.Newest}, NewGroups: true}
}

// Sources are the ages that milena copies from.
func Sources() []Age {
	return []Age{Kafka11(), Kafka28(), Kafka39ZooKeeper(), Kafka39Before28(), Kafka43(), Kafka44()}
}

// Targets are the ages that milena copies to.
func Targets() []Age { return []Age{Kafka28(), Kafka39KRaft(), Kafka43(), Kafka44()} }

// before28 are the options of a cluster whose brokers offer requests with topic ids, but whose topics have none.
func before28(brokers int) kafka.Options {
	return kafka.Options{Version: "3.9.1", Brokers: brokers, Properties: map[string]string{protocolVersion: "2.7"}}
}

const protocolVersion = "inter.broker.protocol.version"
