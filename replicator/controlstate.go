package replicator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/milena-kafka/milena/replicator/control"
)

// isStopped reports whether somebody decided that the flow does nothing any more: it copies nothing, and creates and changes nothing on either cluster but
// its own topics.
func (f *Flow) isStopped() bool { return f.controls.stopped() != nil }

// flushTimeout is how long the end of a flow waits for the brokers of the journal.
const flushTimeout = 3 * time.Second

// doubtPatience is how long the answer to the end of a flow waits for takeovers. Without a leader of a copy, or without the source, they may take for ever.
const doubtPatience = 10 * time.Second

// workOnState answers to the end of a flow once nothing of it is in flight, however long that takes: the answer says that this instance writes no more.
// The journal then has the end of what was copied. What was sent without an answer, by this process or by one before it, may still be written until the copy
// is recovered.
func (f *Flow) workOnState(ctx context.Context, w *work) (control.Result, string) {
	if w.What == control.StartFlow {
		f.syncTopicsSoon()
		return control.Done, "started"
	}
	list, unfenced := f.partitions(), 0
	for _, p := range list {
		p.mu.Lock()
		flying, paused := p.inFlight, p.pause != nil
		if (p.state == waiting || p.state == recovering) && !p.outside.held { // also the marker of a fence may come late
			unfenced++
		}
		p.mu.Unlock()
		if flying > 0 || !paused {
			return "", ""
		}
	}
	untaken := 0
	for _, s := range f.held.all() {
		if !s.ownership.isOwned() {
			untaken++
		}
	}
	if f.live().groups.IsCommitting() || unfenced+untaken > 0 && time.Since(w.began) < doubtPatience {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	f.horizonsDue.Store(new(time.Now())) // what the target lacks is counted by them
	f.syncJournal(ctx)
	text := fmt.Sprintf("stopped, %s, ", counted(len(list), "partition"))
	if unfenced+untaken > 0 {
		return control.Done, text + fmt.Sprintf("nothing more is sent; %s and %s are not recovered yet, so the target may still write what was sent there before", counted(unfenced, "partition"), counted(untaken, "shard"))
	}
	return control.Done, text + "nothing is in flight"
}

// workOnSync answers once a sync of the groups has ended that began after the decision was read.
func (f *Flow) workOnSync(w *work) (control.Result, string) {
	l := f.live()
	switch pause := f.controls.groupsPause(); {
	case pause != nil:
		return control.Refused, fmt.Sprintf("consumer groups are not synced, because %s decided so%s", pause.Who, because(pause.Why))
	case l.GroupsInterval <= 0 || !l.GroupsSync || !f.writers.canTranslateGroups():
		return control.Refused, "the flow does not sync groups"
	case w.adopter != l.groups: // a reload may have replaced the one that was asked
		w.planned, w.adopter, w.asked = true, l.groups, time.Now()
		l.groups.SyncSoon()
		return "", ""
	}
	status := l.groups.Status()
	switch {
	case !status.LastPass.Before(w.asked):
		text := fmt.Sprintf("%s in %s synced", counted(status.Positions-status.Refused, "position"), counted(status.Groups, "group"))
		if status.Refused > 0 {
			text += fmt.Sprintf(", %d refused", status.Refused)
		}
		return control.Done, text
	case time.Since(w.asked) > syncPatience:
		return control.Failed, strings.Join(append([]string{fmt.Sprintf("no sync of all groups ended without an error within %v", syncPatience)}, status.Problems...), "; ")
	}
	return "", ""
}

// syncPatience is for how long a sync of the groups may fail before that is the answer to who asked for it.
const syncPatience = 20 * time.Second
