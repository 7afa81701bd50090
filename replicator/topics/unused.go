package topics

import (
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"

	"github.com/milena-kafka/milena/policy"
)

// Unused keeps the items of a flow's lists that select nothing, and logs each once. It is safe for concurrent use.
type Unused struct {
	find func(names []string) []policy.UnusedItem
	log  *slog.Logger
	seed maphash.Seed

	looking sync.Mutex // held while names are looked at
	known   bool
	names   uint64 // the hash of the names that were looked at last
	logged  map[policy.UnusedItem]bool

	mu    sync.Mutex
	items []policy.UnusedItem
}

// NewUnused creates an Unused. The function find decides, such as [policy.Topics.Unused].
func NewUnused(find func(names []string) []policy.UnusedItem, log *slog.Logger) *Unused {
	return &Unused{find: find, log: log, seed: maphash.MakeSeed(), logged: make(map[policy.UnusedItem]bool)}
}

// Look looks at all names that exist, unless they are those of the last time: there may be a hundred thousand, which change leaders far more
// often than names.
func (u *Unused) Look(names []string) {
	hash := uint64(len(names))
	for _, name := range names {
		hash += maphash.String(u.seed, name) // in any order
	}
	u.looking.Lock()
	defer u.looking.Unlock()
	if u.known && hash == u.names {
		return
	}
	items := u.find(slices.Sorted(slices.Values(names))) // so that the same one of several names is suggested each time
	u.known, u.names = true, hash
	u.mu.Lock()
	u.items = items
	u.mu.Unlock()
	for _, item := range items {
		key := policy.UnusedItem{List: item.List, Item: item.Item}
		if u.logged[key] {
			continue
		}
		u.logged[key] = true
		if item.Notice {
			u.log.Info("an item of the config selects nothing yet", "list", item.List, "item", item.Item)
		} else {
			u.log.Warn("an item of the config selects nothing", "list", item.List, "item", item.Item, "reason", item.Reason)
		}
	}
}

// Items returns what was found last.
func (u *Unused) Items() []policy.UnusedItem {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.items)
}
