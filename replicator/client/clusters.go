package client

import (
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/milena-kafka/milena/config"
	"github.com/milena-kafka/milena/offsets"
)

// Clusters is one flow as its config describes it: what to copy, and both clusters. A check, a comparison, a translation and a rollback
// need nothing else. All fields are required.
type Clusters struct {
	Flow           config.Flow
	Source, Target config.Cluster
	Log            *slog.Logger
}

// Open makes a client of each cluster for one-off requests, without metrics. It reaches no network. The caller closes both.
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

// OpenSource makes a client of the source, as Open does.
func (c Clusters) OpenSource() (*kgo.Client, error) { return c.open(c.Source, c.Flow.Source) }

// OpenTarget makes a client of the target, as Open does.
func (c Clusters) OpenTarget() (*kgo.Client, error) { return c.open(c.Target, c.Flow.Target) }

func (c Clusters) open(cluster config.Cluster, alias string) (*kgo.Client, error) {
	opts, err := Options(cluster, &DialLimits{}, c.Log.With("cluster", alias))
	if err != nil {
		return nil, fmt.Errorf("clusters.%s.%w", alias, err)
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("clusters.%s: %w", alias, err)
	}
	return client, nil
}

// SourceError is Explain for the source.
func (c Clusters) SourceError(err error) error { return Explain(err, c.Flow.Source, c.Source) }

// TargetError is Explain for the target.
func (c Clusters) TargetError(err error) error { return Explain(err, c.Flow.Target, c.Target) }

// InternalTopics are the names of MirrorMaker 2's internal topics for this flow: heartbeats, checkpoints, offset-syncs.
func (c Clusters) InternalTopics() offsets.Names {
	return offsets.Names{Separator: c.Flow.Separator, InternalSeparator: c.Flow.InternalSeparator}
}
