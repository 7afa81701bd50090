package guard

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/milena-kafka/milena/config"
)

const (
	// RememberFor is how long a password counts without another look at its bcrypt hash.
	rememberFor = 10 * time.Minute
	// HashWait is how long a login waits for the hashes of others.
	hashWait = 2 * time.Second
	// MaxPassword is how many bytes of a password bcrypt reads. Of a longer one it would believe the first ones.
	maxPassword = 72
)

// passwords compares passwords with bcrypt hashes. That is slow on purpose, and takes a CPU that copying needs: so one is compared at a time.
type passwords struct {
	hashes   map[string][]byte // by user
	key      [32]byte          // of this process, for what is remembered
	slot     chan struct{}     // one element while a hash is computed
	attempts *attempts

	mu         sync.Mutex
	remembered map[string]remembered // by user: at most one password each
}

type remembered struct {
	sum   [sha256.Size]byte
	until time.Time
}

func newPasswords(users map[string]config.Secret) *passwords {
	p := &passwords{hashes: make(map[string][]byte), slot: make(chan struct{}, 1), attempts: newAttempts(), remembered: make(map[string]remembered)}
	_, _ = rand.Read(p.key[:]) // never fails
	for user, hash := range users {
		p.hashes[user] = []byte(hash.Reveal())
	}
	return p
}

// errWrong does not say whether there is such a user.
func errWrong() *refusal {
	return refused(http.StatusUnauthorized, "the user or the password is wrong; users are in http.users")
}

// check returns why a password is not that of a user, nil if it is.
func (p *passwords) check(ctx context.Context, address, user, password string, log *slog.Logger) *refusal {
	if len(p.hashes) == 0 || len(password) > maxPassword {
		return errWrong()
	}
	hash, known := p.hashes[user]
	sum := p.sum(user, password)
	if known && p.remembers(user, sum) {
		return nil
	}
	key := attempt{source: sourceOf(address)}
	if known {
		key.user = user
	}
	wait, first := p.attempts.take(key)
	if wait > 0 {
		if first {
			log.Warn("too many wrong passwords; more from there are refused for a while", "address", address, "user", key.user)
		}
		return &refusal{http.StatusTooManyRequests, "too many wrong passwords; wait before the next one", wait}
	}
	waiting, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	select {
	case p.slot <- struct{}{}:
	case <-waiting.Done():
		p.attempts.giveBack(key)
		return &refusal{http.StatusServiceUnavailable, "too many passwords are being checked; try again", hashWait}
	}
	defer func() { <-p.slot }()
	if !known {
		for _, hash = range p.hashes { // any of them: it takes as long as for a user that exists
			break
		}
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil || !known {
		return errWrong()
	}
	p.attempts.giveBack(key)
	p.remember(user, sum)
	return nil
}

// sum is what is remembered of a password. Without the key nobody can try passwords out on it.
func (p *passwords) sum(user, password string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key[:])
	_, _ = mac.Write([]byte(user + "\x00" + password))
	copy(sum[:], mac.Sum(nil))
	return sum
}

func (p *passwords) remembers(user string, sum [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.remembered[user]
	return ok && time.Now().Before(r.until) && hmac.Equal(r.sum[:], sum[:])
}

func (p *passwords) remember(user string, sum [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remembered[user] = remembered{sum, time.Now().Add(rememberFor)}
}
