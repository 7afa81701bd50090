package client

import (
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

// Clusters is one flow and its two clusters, as the config describes them. The check, compare, translate and rollback commands need nothing
// else. All fields are required.
type Clusters struct {
	Flow           config.Flow
	Source, Target config.Cluster
	Reverse        []config.Flow // those of the config from Target to Source
	Log            *slog.Logger
}

// Open creates a client of each cluster for one-off requests, without metrics. It does not connect yet. The caller closes both.
func (c Clusters) Open() (source, target *kgo.Client, err error) {
	if source, err = c.OpenSource(); err != nil {
		return nil, nil, err
	}
	if target, err = c.OpenTarget(); err != nil {
		source.Close()
		return nil, nil, err
	}
	return source, target, nil
}

// OpenSource creates only the client of the source, as Open does.
func (c Clusters) OpenSource() (*kgo.Client, error) { return c.open(c.Source, c.Flow.Source) }

// OpenTarget creates only the client of the target, as Open does.
func (c Clusters) OpenTarget() (*kgo.Client, error) { return c.open(c.Target, c.Flow.Target) }

func (c Clusters) open(cluster config.Cluster, alias string) (*kgo.Client, error) {
	opts, err := Options(cluster, &Dials{}, c.Log.With("cluster", alias))
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.%w", alias, err)
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("clusters.%s: %w", alias, err)
	}
	return client, nil
}

// SourceError explains an error of the source, as [Explain] does.
func (c Clusters) SourceError(err error) error { return Explain(err, c.Flow.Source, c.Source) }

// TargetError explains an error of the target, as [Explain] does.
func (c Clusters) TargetError(err error) error { return Explain(err, c.Flow.Target, c.Target) }

// InternalTopics returns the naming of MirrorMaker 2's internal topics for this flow: heartbeats, checkpoints and offset-syncs.
func (c Clusters) InternalTopics() offsets.Names {
	return offsets.Names{Separator: c.Flow.Separator, InternalSeparator: c.Flow.InternalSeparator}
}
