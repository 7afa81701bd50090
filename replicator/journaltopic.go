package replicator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/replicator/topics"
)

// ensureJournal creates the flow's journal topic if it is missing, and compares its number of partitions with the config. That number can
// never change, because the shard of a partition depends on it.
func (f *Flow) ensureJournal(ctx context.Context) error {
	admin := kadm.NewClient(f.target)
	if info, ok := f.targetView().ByName[f.journalTopic]; ok {
		return f.checkJournal(info)
	}
	factor := f.config.ReplicationFactor
	if factor == 0 {
		factor = -1
	}
	compact, segment, roll := "compact", strconv.Itoa(16<<20), strconv.FormatInt(time.Hour.Milliseconds(), 10)
	response, err := admin.CreateTopic(ctx, f.config.Shards, factor, map[string]*string{
		"cleanup.policy": &compact, "segment.bytes": &segment, "segment.ms": &roll, // small segments, because compaction skips the active one
	}, f.journalTopic)
	if err == nil {
		err = response.Err
	}
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return &fatalError{fmt.Errorf("create journal topic %s on cluster %s: %w; grant CREATE, READ and WRITE on it to milena's principal", f.journalTopic, f.config.Target, err)}
	default:
		return fmt.Errorf("create journal topic %s on cluster %s: %w", f.journalTopic, f.config.Target, err)
	}
	view, err := f.awaitTopics(ctx, []string{f.journalTopic})
	if err != nil {
		return err
	}
	f.topology.setTarget(view)
	return f.checkJournal(view.ByName[f.journalTopic])
}

// checkJournal returns a fatal error if the journal topic does not have as many partitions as the config has shards.
func (f *Flow) checkJournal(info topics.Topic) error {
	if len(info.Partitions) != int(f.config.Shards) {
		return &fatalError{fmt.Errorf("flow %s: the journal topic %s on cluster %s has %d partitions, the config says shards: %d; set shards to %d",
			f.config.Name, f.journalTopic, f.config.Target, len(info.Partitions), f.config.Shards, len(info.Partitions))}
	}
	return nil
}
