package groups

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// adoptions are the groups whose positions on the target count from now on as put by milena, because a person said so, whoever committed them.
type adoptions struct {
	wake chan struct{} // a sync is to begin at once

	mu   sync.Mutex
	left map[string]bool   // groups that the next sync adopts
	done map[string]string // what became of the others, as a clause
}

func newAdoptions() *adoptions {
	return &adoptions{wake: make(chan struct{}, 1), left: make(map[string]bool), done: make(map[string]string)}
}

// Adopt lets the next sync take the positions of a group on the target for its own, whoever put them there: it moves them as the group moves on the
// source. A group with members is left alone, as always. The sync begins soon. Call [Syncer.Adopted] for the outcome.
func (s *Syncer) Adopt(group string) {
	a := s.adoptions
	a.mu.Lock()
	delete(a.done, group)
	a.left[group] = true
	a.mu.Unlock()
	s.SyncSoon()
}

// SyncSoon lets the next sync begin at once. [Syncer.Status] tells when the last one began.
func (s *Syncer) SyncSoon() {
	select {
	case s.adoptions.wake <- struct{}{}:
	default:
	}
}

// Adopted returns what became of an adoption, as a clause, and forgets it. The ok result is false while that is not known.
func (s *Syncer) Adopted(group string) (text string, ok bool) {
	a := s.adoptions
	a.mu.Lock()
	defer a.mu.Unlock()
	text, ok = a.done[group]
	delete(a.done, group)
	return text, ok
}

// Withdraw ends an adoption that the sync has not begun.
func (s *Syncer) Withdraw(group string) {
	a := s.adoptions
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.left, group)
	delete(a.done, group)
}

// wants reports whether the sync is to adopt a group.
func (a *adoptions) wants(group string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left[group]
}

// end records what became of the adoption of a group.
func (a *adoptions) end(group string, positions []*position) {
	if !a.wants(group) {
		return
	}
	adopted, refused := 0, ""
	for _, q := range positions {
		switch {
		case q.refusal == "" && q.placed && !q.unfinished, q.unnoted:
			adopted++
		case refused == "" && q.refusal != "":
			refused = q.detail
		}
	}
	text := fmt.Sprintf("%d of %d committed offsets of group %s count as put by milena", adopted, len(positions), group)
	if refused != "" {
		text += "; " + refused
	}
	a.finish(group, text)
}

// endUnknown ends the adoptions of groups that a complete sync did not meet.
func (a *adoptions) endUnknown(names []string) {
	a.mu.Lock()
	var unknown []string
	for group := range a.left {
		if _, ok := slices.BinarySearch(names, group); !ok {
			unknown = append(unknown, group)
		}
	}
	a.mu.Unlock()
	for _, group := range unknown {
		a.finish(group, fmt.Sprintf("group %s is not one that the flow follows", group))
	}
}

func (a *adoptions) finish(group, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.left, group)
	a.done[group] = text
}

// sleep waits for the next sync: for d, or until a group is to be adopted.
func (a *adoptions) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.wake:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
