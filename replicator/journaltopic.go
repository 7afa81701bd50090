package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/milena-kafka/milena/replicator/topics"
)

// ensureJournal creates the flow's journal topic if it is missing, and compares its number of partitions with the config. That number can
// never change, because the shard of a partition depends on it.
func (f *Flow) ensureJournal(ctx context.Context) error {
	if info, ok := f.targetView().ByName[f.journalTopic]; ok {
		return f.checkJournal(ctx, info)
	}
	_, left, err := topics.Journal(f.live().Flow, f.targetView()).Create(ctx, f.target, f.config.Target)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return &fatalError{fmt.Errorf("create journal topic %s on cluster %s: %w; grant CREATE, READ and WRITE on it to milena's principal", f.journalTopic, f.config.Target, err)}
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	}
	for _, l := range left {
		f.log.Warn("journal config left out: the target refuses it, so the journal is compacted later than it could be", "topic", l.Topic, "config", l.Config, "err", l.Err)
	}
	view, err := f.awaitTopics(ctx, []string{f.journalTopic})
	if err != nil {
		return err
	}
	f.topology.setTarget(view)
	return f.checkJournal(ctx, view.ByName[f.journalTopic])
}

// checkJournal returns a fatal error if the journal topic does not have as many partitions as the config has shards, or if retention deletes
// what is in it: a map that has lost segments is worse than none.
func (f *Flow) checkJournal(ctx context.Context, info topics.Topic) error {
	var wrong *topics.NotCompactedError
	var old *topics.OldFormatError
	switch err := topics.Journal(f.live().Flow, f.targetView()).Check(ctx, f.target, f.config.Target, f.options.Target.Brokers); {
	case errors.As(err, &wrong), errors.As(err, &old):
		return &fatalError{fmt.Errorf("flow %s: journal %w", f.config.Name, err)}
	case err != nil:
		f.warn("it is not known whether the journal is compacted", "err", err)
	}
	if len(info.Partitions) != int(f.config.Shards) {
		return &fatalError{fmt.Errorf("flow %s: the journal topic %s on cluster %s has %d partitions, the config says shards: %d; set shards to %d",
			f.config.Name, f.journalTopic, f.config.Target, len(info.Partitions), f.config.Shards, len(info.Partitions))}
	}
	return nil
}
