package guard

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// Whoever has used up maxWrong wrong passwords may try another one each attemptEvery.
	maxWrong     = 10
	attemptEvery = 10 * time.Second
	// MaxSources bounds what is remembered of those who tried. Beyond it all that are new count as one.
	maxSources = 10_000
)

// attempt is who tries which user. A user that does not exist is empty. The address counts, so that nobody can lock a user out from elsewhere, and
// the user, because behind a proxy all have one address.
type attempt struct {
	source netip.Prefix
	user   string
}

// attempts limits wrong passwords.
type attempts struct {
	mu    sync.Mutex
	used  map[attempt]*usedUp
	swept time.Time // when those were forgotten last that have everything back
}

// usedUp is how many attempts somebody has used up at a time. They come back one by one.
type usedUp struct {
	count   float64
	at      time.Time
	refused bool // since the last one that was let through
}

func newAttempts() *attempts { return &attempts{used: make(map[attempt]*usedUp)} }

// sourceOf is the network that an address is counted for. Who has an IPv6 address has the rest of its /64, too.
func sourceOf(address string) netip.Prefix {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits) // the bits fit the address
	return prefix
}

// left is what is used up now.
func (u *usedUp) left(now time.Time) float64 {
	return max(0, u.count-now.Sub(u.at).Seconds()/attemptEvery.Seconds())
}

// take uses up an attempt before it is known how it comes out, so that many at a time are limited too. It returns how long to wait if none is
// left, and whether that is new.
func (a *attempts) take(key attempt) (wait time.Duration, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	u := a.find(key, now)
	u.count, u.at = u.left(now), now
	if u.count > maxWrong-1 {
		first, u.refused = !u.refused, true
		return time.Duration((u.count - maxWrong + 1) * float64(attemptEvery)), first
	}
	u.count++
	u.refused = false
	return 0, false
}

// giveBack is for an attempt that was right, or was not made.
func (a *attempts) giveBack(key attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.find(key, time.Now())
	u.count = max(0, u.count-1)
}

// find returns what somebody has used up. The caller holds the lock.
func (a *attempts) find(key attempt, now time.Time) *usedUp {
	if u := a.used[key]; u != nil {
		return u
	}
	if len(a.used) >= maxSources && now.Sub(a.swept) >= attemptEvery { // not each time: there are many
		a.swept = now
		for k, u := range a.used {
			if u.left(now) == 0 {
				delete(a.used, k)
			}
		}
	}
	if len(a.used) >= maxSources {
		key = attempt{user: key.user}
		if u := a.used[key]; u != nil {
			return u
		}
	}
	u := &usedUp{at: now}
	a.used[key] = u
	return u
}
