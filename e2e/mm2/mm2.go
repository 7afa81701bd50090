// Package mm2 runs MirrorMaker 2 in dedicated mode, for comparison and for migration.
package mm2

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/proc"
)

// Options configure MirrorMaker 2. The aliases of the clusters are primary and dr.
type Options struct {
	// Primary and DR are bootstrap addresses.
	Primary, DR []string
	// Topics is a regular expression.
	Topics string
	// Properties are added to mm2.properties and override what this package sets.
	Properties map[string]string
}

// RemoteTopic is the name of a topic's copy on dr.
func RemoteTopic(topic string) string { return "primary." + topic }

// Start writes dir/mm2.properties and starts MirrorMaker 2 with one flow from primary to dr and replication factor 1. The reverse direction is
// off, and so are its heartbeats, which would need a second Connect worker in the process. The log is in dir. The process ends with ctx.
func Start(ctx context.Context, jars kafka.Jars, dir string, o Options) (*proc.Process, error) {
	properties := map[string]string{
		"clusters":                            "primary, dr",
		"primary.bootstrap.servers":           strings.Join(o.Primary, ","),
		"dr.bootstrap.servers":                strings.Join(o.DR, ","),
		"primary->dr.enabled":                 "true",
		"primary->dr.topics":                  o.Topics,
		"dr->primary.enabled":                 "false",
		"refresh.topics.interval.seconds":     "5",
		"replication.factor":                  "1",
		"dr->primary.emit.heartbeats.enabled": "false",
	}
	for _, topic := range []string{"checkpoints.topic", "heartbeats.topic", "offset-syncs.topic", "offset.storage", "status.storage", "config.storage"} {
		properties[topic+".replication.factor"] = "1"
	}
	maps.Copy(properties, o.Properties)
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s = %s\n", key, properties[key])
	}
	file := filepath.Join(dir, "mm2.properties")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	return StartFile(ctx, jars, dir, file)
}

// StartFile starts MirrorMaker 2 with an existing mm2.properties. The log is in dir. The process ends with ctx.
func StartFile(ctx context.Context, jars kafka.Jars, dir, file string) (*proc.Process, error) {
	return proc.Start(ctx, "MirrorMaker 2", filepath.Join(dir, "mm2.log"),
		jars.Class([]string{"-Xms512m", "-Xmx2g", "-XX:+UseG1GC"}, "org.apache.kafka.connect.mirror.MirrorMaker", file))
}
