package replicator

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The group has removed this process while it hands shards over, which may take long, as with a broker that hangs. Others may have its other shards
// already, so nothing is sent from then on, although the last heartbeat is young. A heartbeat that was sent before says nothing.
func TestTheLeaseEndsWhenTheGroupRemovesAMember(t *testing.T) {
	f := testFlow(t)
	now := instant(time.Second)
	f.lease = newLease(time.Hour, func() instant { return now })
	f.instance.init("one", f.config)
	f.lease.confirm(now)
	now++
	f.instance.mu.Lock() // as in a hand-over
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.lost(kerr.UnknownMemberID)
	}()
	for f.lease.holds() {
		time.Sleep(time.Millisecond)
	}
	f.lease.confirm(now - 1)
	if f.lease.holds() {
		t.Error("a confirmation from before holds the lease")
	}
	f.instance.mu.Unlock()
	<-ended
	f.lease.confirm(now + 1)
	if !f.lease.holds() {
		t.Error("a later confirmation does not hold the lease")
	}
}
