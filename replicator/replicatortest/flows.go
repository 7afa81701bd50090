package replicatortest

import (
	"fmt"

	"github.com/milena-kafka/milena/replicator"
)

// Flows are instances of one flow, which share its shards.
type Flows []*Flow

// until waits until ok accepts the statuses of all instances.
func (s Flows) until(what string, ok func([]replicator.Status) (bool, string)) {
	s[0].t.Helper()
	Eventually(s[0].t, what, func() (bool, string) {
		statuses := make([]replicator.Status, len(s))
		for i, f := range s {
			statuses[i] = f.Status()
		}
		return ok(statuses)
	})
}

// UntilShared waits until the group has assigned all shards, each instance holds at least least of them, and all are ready.
func (s Flows) UntilShared(least int) {
	s[0].t.Helper()
	s.until("the instances share all shards", func(statuses []replicator.Status) (bool, string) {
		held, shared, detail := 0, true, ""
		for _, status := range statuses {
			held += status.Instance.Held
			shared = shared && status.Ready && status.Instance.Held >= least && (status.Instance.State == "assigned" || status.Instance.State == "standby")
			detail += fmt.Sprintf("%+v, not ready: %v; ", status.Instance, status.NotReady)
		}
		return shared && held == int(s[0].Config.Shards), detail
	})
}

// UntilHeld waits until the group has assigned all shards, and each instance holds at least least of them. They may be taking them over.
func (s Flows) UntilHeld(least int) {
	s[0].t.Helper()
	s.until("the instances hold all shards", func(statuses []replicator.Status) (bool, string) {
		held, all, detail := 0, true, ""
		for _, status := range statuses {
			held += status.Instance.Held
			all = all && status.Instance.Held >= least && (status.Instance.State == "assigned" || status.Instance.State == "standby")
			detail += fmt.Sprintf("%+v; ", status.Instance)
		}
		return all && held == int(s[0].Config.Shards), detail
	})
}

// UntilCopied waits until everything that a source topic holds now is acknowledged by the target, whichever instance has the partition.
func (s Flows) UntilCopied(topic string) {
	s[0].t.Helper()
	ends := s[0].source.EndOffsets(topic)
	s.until(fmt.Sprintf("%s is copied up to %v", topic, ends), func(statuses []replicator.Status) (bool, string) {
		acked := make(map[int32]int64)
		for _, status := range statuses {
			for _, p := range Partitions(status, topic) {
				if p.State == "replicating" {
					acked[p.Partition] = max(acked[p.Partition], p.Acked)
				}
			}
		}
		for partition, end := range ends {
			if acked[partition] < end || len(acked) < len(ends) {
				return false, fmt.Sprint(acked)
			}
		}
		return true, ""
	})
}

// UntilProgress waits until the target has acknowledged that many more records, of all topics and instances together.
func (s Flows) UntilProgress(records int64) {
	s[0].t.Helper()
	sum := func(statuses []replicator.Status) (n int64) {
		for _, status := range statuses {
			n += status.Records
		}
		return n
	}
	before := int64(-1)
	s.until("more records are copied", func(statuses []replicator.Status) (bool, string) {
		now := sum(statuses)
		if before < 0 {
			before = now
		}
		return now >= before+records, fmt.Sprintf("%d, and %d before", now, before)
	})
}

// Stop stops all instances.
func (s Flows) Stop() {
	s[0].t.Helper()
	for _, f := range s {
		f.Stop()
	}
}
