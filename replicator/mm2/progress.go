package mm2

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/replicator/client"
)

// ReadProgress reads the connector offsets and offset-syncs of the MirrorMaker 2 that a flow migrates from. A topic that does not exist counts
// as empty. It blocks until both topics are read.
func ReadProgress(ctx context.Context, o client.Clusters, source, target *kgo.Client) (*offsets.MM2Progress, error) {
	c, names := o.Flow, o.InternalTopics()
	syncsAt, syncs := target, names.OffsetSyncs(c.Source)
	switch c.OffsetSyncs {
	case config.OffsetSyncsSource:
		syncsAt, syncs = source, names.OffsetSyncs(c.Target)
	case config.OffsetSyncsOff:
		syncs = ""
	}
	progress, err := offsets.ReadMM2Progress(ctx, target, c.MigrateFrom, c.Source, syncsAt, syncs)
	if err != nil {
		return nil, fmt.Errorf("read the connector offsets and offset-syncs of MirrorMaker 2: %w", err)
	}
	return progress, nil
}
