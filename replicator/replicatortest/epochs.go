package replicatortest

import (
	"math"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// epochs makes InitProducerId of a fake cluster as strict as a broker's. Kfake accepts a producer with an older epoch than the current one; a
// broker refuses it (KIP-360), and that is how an instance learns that another one took over.
type epochs struct {
	mu      sync.Mutex
	current map[int64]int16
	last    map[int64]int16 // the epoch whose owner bumped it: a repeated request is no fence
}

func (e *epochs) guard(c *kfake.Cluster) {
	e.current, e.last = make(map[int64]int16), make(map[int64]int16)
	c.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := request.(*kmsg.InitProducerIDRequest)
		e.mu.Lock()
		defer e.mu.Unlock()
		current, known := e.current[r.ProducerID]
		last, repeated := e.last[r.ProducerID]
		if !known || r.ProducerEpoch >= current || repeated && r.ProducerEpoch == last {
			return nil, nil, false
		}
		response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ErrorCode = kerr.ProducerFenced.Code
		return response, nil, true
	})
}

// learn reads the epochs in the answers to InitProducerId and EndTxn.
func (e *epochs) learn(request kmsg.Request, answer []byte) {
	response := request.ResponseKind()
	body := answer[8:]
	if response.IsFlexible() {
		body = body[1:]
	}
	if e.current == nil || response.ReadFrom(body) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r := response.(type) {
	case *kmsg.InitProducerIDResponse:
		if r.ErrorCode == 0 {
			delete(e.last, r.ProducerID)
			if expected := request.(*kmsg.InitProducerIDRequest).ProducerEpoch; expected >= 0 {
				e.last[r.ProducerID] = expected
			}
			e.current[r.ProducerID] = r.ProducerEpoch
		}
	case *kmsg.EndTxnResponse:
		if r.ErrorCode == 0 && r.ProducerID >= 0 && r.ProducerEpoch > e.current[r.ProducerID] {
			e.last[r.ProducerID] = e.current[r.ProducerID]
			e.current[r.ProducerID] = r.ProducerEpoch
		}
	}
}

// UseEpochs uses up epochs of a transactional id until it has the given one, and returns its producer id. Many requests are in flight at a time,
// because there are as many as epochs.
func (c *Cluster) UseEpochs(transactionalID string, epoch int16) (producerID int64) {
	c.t.Helper()
	const inFlight = 64
	for {
		id, at := c.useEpoch(transactionalID)
		if at >= epoch {
			return id
		}
		var workers sync.WaitGroup
		for range inFlight {
			workers.Go(func() {
				for range int(epoch-at) / inFlight {
					c.useEpoch(transactionalID)
				}
			})
		}
		workers.Wait()
	}
}

// useEpoch uses up one epoch of a transactional id, and returns it with its producer id.
func (c *Cluster) useEpoch(transactionalID string) (producerID int64, epoch int16) {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID, request.TransactionTimeoutMillis = &transactionalID, 60_000
	response, err := request.RequestWith(c.t.Context(), c.Client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		c.t.Errorf("use an epoch of %s: %v", transactionalID, err)
		return -1, math.MaxInt16
	}
	return response.ProducerID, response.ProducerEpoch
}

// Fence raises the epoch of a transactional id, as another process does that takes a shard over and then does nothing.
func (c *Cluster) Fence(transactionalID string) {
	c.t.Helper()
	c.useEpoch(transactionalID)
}
