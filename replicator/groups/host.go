package groups

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"

	"github.com/milena-kafka/milena/offsets"
	"github.com/milena-kafka/milena/policy"
	"github.com/milena-kafka/milena/replicator/client"
	"github.com/milena-kafka/milena/replicator/topics"
)

// Copy is one source partition and its copy on the target. Its methods do no I/O and are safe for concurrent use.
type Copy interface {
	// TopicIDs returns the ids of the source topic and of its remote topic. A topic that is deleted and created again has another id
	// (KIP-516).
	TopicIDs() (source, target [16]byte)
	// Forward translates a source offset with the part of the map that is in memory. An offset above the end of the copy is translated to
	// that end, and the copied result is false. Errors: [ErrRecovering], [ErrRewritten], *[offsets.BeforeStartError].
	Forward(source int64) (target int64, copied bool, err error)
	// MapStart returns the lowest target offset that the map describes. The ok result is false while there is no map.
	MapStart() (target int64, ok bool)
	// LastSync returns the offset pair of the last copied record. The ok result is false if the copy does not end with a copied record.
	LastSync() (sync offsets.OffsetSync, ok bool)
}

// Errors of [Copy.Forward].
var (
	// ErrRecovering means that there is no map at the moment.
	ErrRecovering = errors.New("the partition is being recovered, or copying has not started")
	// ErrRewritten means that the partition is halted because one of its logs is not the one that the map describes.
	ErrRewritten = errors.New("the partition is halted: one of its logs was recreated or truncated")
)

// IsRewritten reports whether a partition that is halted for an anomaly has a log that its map does not describe, see [ErrRewritten].
func IsRewritten(kind policy.Kind) bool {
	return kind == policy.Recreated || kind == policy.TargetRecreated || kind == policy.Truncated
}

// Host is the flow that the groups belong to. Its methods are safe for concurrent use, and only Note does I/O.
type Host interface {
	// Leads reports whether this process does the work of the flow that only one process may do. It may change at any time.
	Leads() bool
	// Writes reports whether this process may write what is about its own copies. It may change at any time.
	Writes() bool
	// Copy returns the copy of a source partition. The ok result is false if this process does not have it: the flow does not copy it yet, or
	// it is elsewhere.
	Copy(source offsets.TopicPartition) (c Copy, ok bool)
	// Elsewhere reports whether another process has the copy of a source partition, if there is one. This process then knows of it only
	// what the journal says. It may change at any time.
	Elsewhere(source offsets.TopicPartition) bool
	// Copies returns all copies that this process has, in no order.
	Copies() []Copy
	// View returns the metadata that a cluster returned last.
	View(side offsets.Side) topics.View
	// RefreshSoon requests new metadata of both clusters and does not wait for it.
	RefreshSoon()
	// Note appends entries to [offsets.LineagePartition] of the flow's journal, under the fence. It blocks until they are
	// acknowledged; after an error some may be there.
	Note(ctx context.Context, entries []offsets.Entry) error
}

// Migration knows what MirrorMaker 2 recorded of the copies that the flow continues.
type Migration interface {
	// Forward translates a source offset from before the migration. The ok result is false if nothing was recorded that is old enough.
	// It may block for reading.
	Forward(ctx context.Context, source offsets.TopicPartition, offset int64) (target int64, ok bool)
}

// Deps are what the package needs of its flow. All fields but Migration, Paused and Stopped are required.
type Deps struct {
	client.Clusters // with a log of the flow
	Host            Host
	Migration       Migration      // nil if the flow continues no copies of MirrorMaker 2
	Topics          *policy.Topics // the flow's rules
	Paused          func() bool    // reports whether somebody has paused the sync; nil if nobody can
	Stopped         func() bool    // reports whether somebody has stopped the flow; nil if nobody can
	// SourceClient and TargetClient are for the requests of this package alone: one that is given up closes its connection.
	SourceClient, TargetClient     *kgo.Client
	SourceMetadata, TargetMetadata *topics.Reader // shared with the flow, so that both keep one view
	Throttles                      *client.Throttles
	Warn                           func(msg string, attrs ...any)                                                                          // logs a warning, but not the same one again and again
	Span                           func(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, func(error)) // traces a pass
	Metrics                        Metrics
}

// Metrics are the series that the package writes.
type Metrics struct {
	Syncs             *prometheus.CounterVec // of groups, by result: done or failed
	CheckpointLatency prometheus.Observer    // seconds
	Commits           prometheus.Counter     // offsets committed on the target
	Refusals          *prometheus.CounterVec // by reason, counted when they begin
	Records           *prometheus.CounterVec // written to internal topics, by cluster and topic
	RecordErrors      *prometheus.CounterVec // failed writes, by cluster and topic
}
