package kafka

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/milena-kafka/milena/e2e/proc"
)

// Versions before 4.0 run with ZooKeeper here unless Options.KRaft is set: that is what still has an inter.broker.protocol.version.

// startZooKeeper starts a ZooKeeper that listens on a port of loopback.
func (c *Cluster) startZooKeeper(ctx context.Context, port int, dir string) error {
	data := filepath.Join(dir, "zookeeper")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	config := filepath.Join(data, "zoo.cfg")
	text := fmt.Sprintf("dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\ntickTime=500\n", data, port)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	options := []string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.jmx.log4j.disable=true"} // else it needs log4j 1
	_, err := proc.Start(ctx, c.name+"-zookeeper", filepath.Join(data, "out.log"),
		c.jars.Class(options, "org.apache.zookeeper.server.quorum.QuorumPeerMain", config))
	return err
}

// prepareWithZooKeeper writes server.properties of a broker of an old version.
func (b *Broker) prepareWithZooKeeper(listeners string, zooKeeper string, o Options) error {
	all := defaultProperties(o.Brokers)
	maps.Copy(all, map[string]string{
		"broker.id":                    fmt.Sprint(b.id),
		"zookeeper.connect":            zooKeeper,
		"zookeeper.session.timeout.ms": "10000", // the most that ZooKeeper grants with its tickTime
		// A broker that does not hear from ZooKeeper in time when it starts ends, and many processes share the machine.
		"zookeeper.connection.timeout.ms": "60000",
		"listeners":                       listeners,
		"listener.security.protocol.map":  protocols("SASL_SSL"),
		"inter.broker.listener.name":      "PLAINTEXT",
		"log.dirs":                        filepath.Join(b.dir, "data"),
	})
	maps.Copy(all, o.Properties)
	if err := os.MkdirAll(b.DataDir(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "server.properties"), []byte(propertiesText(all)), 0o644)
}

// SetProperty changes a line of server.properties, which takes effect at the next start of the broker.
func (b *Broker) SetProperty(name, value string) error {
	f, err := os.OpenFile(filepath.Join(b.dir, "server.properties"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s=%s\n", name, value) // the last line of a name counts
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
