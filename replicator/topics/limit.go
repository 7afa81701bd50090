package topics

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// partitionsPerRequest limits the partitions that one request creates: a KRaft controller refuses more than 10,000, and more than 10,000
// records of metadata, of which each topic, partition and config is one.
const partitionsPerRequest = 5_000

// requestLimit is how many topics a cluster accepts in one request, as learned from its refusals. The zero value has learned nothing.
type requestLimit struct {
	mu     sync.Mutex
	topics int
}

func (l *requestLimit) get() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics == 0 {
		return topicsPerRequest
	}
	return l.topics
}

func (l *requestLimit) lower(topics int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics == 0 || topics < l.topics {
		l.topics = topics
	}
}

// inParts sends items in requests that are within the limits. A request that may be refused for its size is sent again in halves. Half of what
// was refused is the limit from there on, if it passes.
func inParts[T any](limit *requestLimit, items []T, partitions func(T) int, send func(part []T) (tooLarge bool)) {
	for len(items) > 0 {
		n, sum := 0, 0
		for n < min(len(items), limit.get()) && (n == 0 || sum+partitions(items[n]) <= partitionsPerRequest) {
			sum += partitions(items[n])
			n++
		}
		sendHalves(limit, items[:n], send)
		items = items[n:]
	}
}

// sendHalves sends a part, and its halves if it is too large. It reports whether a request passed.
func sendHalves[T any](limit *requestLimit, part []T, send func(part []T) (tooLarge bool)) (passed bool) {
	switch {
	case !send(part):
		return true
	case len(part) == 1:
		return false
	}
	half := (len(part) + 1) / 2
	first := sendHalves(limit, part[:half], send)
	second := sendHalves(limit, part[half:], send)
	if passed = first || second; passed {
		limit.lower(half)
	}
	return passed
}

// refusedAsAWhole reports whether a cluster refused all topics of a request for one reason that may be the request's size: a limit of topics
// or partitions per request has no code of its own.
func refusedAsAWhole(answers map[string]answer) bool {
	var first error
	for _, a := range answers {
		if first == nil {
			first = a.err
		}
		if !mayBeTooLarge(a.err) || !errors.Is(a.err, first) {
			return false
		}
	}
	return first != nil
}

func mayBeTooLarge(err error) bool {
	for _, code := range []error{kerr.PolicyViolation, kerr.InvalidRequest, kerr.UnknownServerError, kerr.RequestTimedOut} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// refusals are the target topics that were refused alone, by their names. They are tried again less and less often, so that they do not cost
// a request each in every sync. The zero value is empty.
type refusals struct {
	mu     sync.Mutex
	topics map[string]*refusal
}

type refusal struct {
	err   error
	wait  time.Duration
	again time.Time
}

// A refused topic is tried again after firstWait, then after twice as long, and at least every maxWait.
const (
	firstWait = time.Second
	maxWait   = 30 * time.Second
)

// due returns the pairs that may be tried now, and adds the errors of the others.
func (r *refusals) due(pairs []Pair, errs map[string]error) []Pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(pairs), func(p Pair) bool {
		refused := r.topics[p.TargetName]
		wait := refused != nil && time.Now().Before(refused.again)
		if wait {
			errs[p.TargetName] = refused.err
		}
		return wait
	})
}

// note remembers the errors of pairs that were tried.
func (r *refusals) note(tried []Pair, errs map[string]error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.topics == nil {
		r.topics = make(map[string]*refusal)
	}
	for _, p := range tried {
		err, known := errs[p.TargetName], r.topics[p.TargetName]
		switch {
		case err == nil || !mayBeTooLarge(err):
			delete(r.topics, p.TargetName)
		case known == nil:
			r.topics[p.TargetName] = &refusal{err, firstWait, time.Now().Add(firstWait)}
		case !time.Now().Before(known.again):
			known.err, known.wait = err, min(2*known.wait, maxWait)
			known.again = time.Now().Add(known.wait)
		}
	}
}
