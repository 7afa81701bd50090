package replicator

import (
	"context"
	"time"

	"github.com/milena-kafka/milena/replicator/client"
)

// refreshes are requests to read metadata early, because a leader may have moved. Nothing that moves batches waits for metadata: a request
// never blocks, and requests that come while one waits are answered by it.
type refreshes struct{ source, target chan struct{} }

func newRefreshes() refreshes {
	return refreshes{make(chan struct{}, 1), make(chan struct{}, 1)}
}

// refreshSourceSoon requests the metadata of the source. It does not block.
func (f *Flow) refreshSourceSoon() { requestSoon(f.refreshes.source) }

// refreshTargetSoon requests the metadata of the target. It does not block.
func (f *Flow) refreshTargetSoon() { requestSoon(f.refreshes.target) }

// syncTopicsSoon requests an early topic sync. It does not block.
func (f *Flow) syncTopicsSoon() { requestSoon(f.topology.early) }

func requestSoon(requests chan struct{}) {
	select {
	case requests <- struct{}{}:
	default:
	}
}

// maxRefreshPause is the longest pause between two early refreshes. Requests may last, as for a partition without a leader.
const maxRefreshPause = 2 * time.Second

// refreshLoop reads the metadata of a cluster when it is requested. The pauses grow while requests keep coming.
func refreshLoop(ctx context.Context, requests chan struct{}, refresh func(context.Context) (read bool)) {
	for pause := refreshEvery; ; {
		idle := time.NewTimer(2 * maxRefreshPause)
		select {
		case <-ctx.Done():
			idle.Stop()
			return
		case <-idle.C:
			pause = refreshEvery
			continue
		case <-requests:
			idle.Stop()
		}
		if !refresh(ctx) {
			requestSoon(requests) // another read began just before, perhaps too early to know what this request is about
		}
		if client.Sleep(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, maxRefreshPause)
	}
}
