package guard

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/milena-kafka/milena/config"
)

const right = "correct horse"

// bob is the passwords of bob alone.
func bob(t *testing.T) *passwords {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(right), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return newPasswords(map[string]config.Secret{"bob": config.Secret(hash)})
}

func (p *passwords) code(ctx context.Context, address, user, password string) int {
	if why := p.check(ctx, address, user, password, slog.New(slog.DiscardHandler)); why != nil {
		return why.code
	}
	return http.StatusOK
}

// A scrape computes no hash as long as its password is remembered, and another password does not count for it.
func TestPasswordIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bob(t)
		if code := p.code(t.Context(), "192.0.2.1:1", "bob", right); code != http.StatusOK {
			t.Fatalf("code %d", code)
		}
		p.slot <- struct{}{} // nobody can compute a hash now
		for range 1000 {
			if code := p.code(t.Context(), "192.0.2.1:1", "bob", right); code != http.StatusOK {
				t.Fatalf("code %d", code)
			}
		}
		for _, password := range []string{"wrong", right + "x", ""} {
			if code := p.code(t.Context(), "192.0.2.1:1", "bob", password); code != http.StatusServiceUnavailable {
				t.Errorf("%q: code %d", password, code)
			}
		}
		if code := p.code(t.Context(), "192.0.2.1:1", "eve", right); code != http.StatusServiceUnavailable {
			t.Errorf("another user: code %d", code)
		}
		time.Sleep(rememberFor)
		if code := p.code(t.Context(), "192.0.2.1:1", "bob", right); code != http.StatusServiceUnavailable {
			t.Errorf("it is remembered for ever: code %d", code)
		}
		<-p.slot
		if code := p.code(t.Context(), "192.0.2.1:1", "bob", right); code != http.StatusOK {
			t.Errorf("code %d", code)
		}
	})
}

// Who guesses passwords, many at a time, has ten of them and then one every ten seconds. Nobody else is kept out.
func TestGuessingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bob(t)
		guess := func(address string, guesses int) (tried, refused int64) {
			var wrong, many atomic.Int64
			var all sync.WaitGroup
			for i := range guesses {
				all.Go(func() {
					switch code := p.code(t.Context(), address, "bob", fmt.Sprint("guess ", i)); code {
					case http.StatusUnauthorized:
						wrong.Add(1)
					case http.StatusTooManyRequests:
						many.Add(1)
					default:
						t.Errorf("code %d", code)
					}
				})
			}
			all.Wait()
			return wrong.Load(), many.Load()
		}
		if tried, refused := guess("192.0.2.1:1", 200); tried != maxWrong || refused != 200-maxWrong {
			t.Errorf("%d were tried, %d refused", tried, refused)
		}
		if code := p.code(t.Context(), "192.0.2.1:2", "bob", right); code != http.StatusTooManyRequests {
			t.Errorf("the right guess counts after too many: code %d", code)
		}
		if code := p.code(t.Context(), "198.51.100.1:1", "bob", right); code != http.StatusOK {
			t.Errorf("bob is kept out elsewhere: code %d", code)
		}
		if code := p.code(t.Context(), "192.0.2.1:2", "bob", right); code != http.StatusOK {
			t.Errorf("what is remembered needs no guess: code %d", code)
		}
		time.Sleep(3 * attemptEvery)
		if tried, refused := guess("192.0.2.1:1", 50); tried != 3 || refused != 47 {
			t.Errorf("30 s later, %d were tried, %d refused", tried, refused)
		}
		// All addresses of one network count as one, and all users that do not exist.
		tried := 0
		for i := range 100 {
			if p.code(t.Context(), fmt.Sprintf("[2001:db8::%x]:1", i+1), fmt.Sprint("user", i), "x") == http.StatusUnauthorized {
				tried++
			}
		}
		if tried != maxWrong {
			t.Errorf("%d were tried from one network", tried)
		}
	})
}

// A login that is right uses nothing up.
func TestRightPasswordsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bob(t)
		for range 3 * maxWrong {
			if code := p.code(t.Context(), "192.0.2.1:1", "bob", right); code != http.StatusOK {
				t.Fatalf("code %d", code)
			}
			clear(p.remembered)
		}
	})
}

// However many try, a bounded number of them is remembered; those beyond it share what is left.
func TestAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts()
		for i := range 2 * maxSources {
			a.take(attempt{source: sourceOf(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))})
		}
		if n := len(a.used); n > maxSources+1 {
			t.Errorf("%d are remembered", n)
		}
		if wait, _ := a.take(attempt{source: sourceOf("203.0.113.1:1")}); wait == 0 {
			t.Error("who comes when too many are known is not limited")
		}
		time.Sleep(time.Hour)
		if wait, _ := a.take(attempt{source: sourceOf("203.0.113.1:1")}); wait != 0 || len(a.used) > 2 {
			t.Errorf("an hour later, one waits %v, and %d are remembered", wait, len(a.used))
		}
	})
}

// The operator is told once that somebody guesses.
func TestGuessingIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bob(t)
		var out strings.Builder
		for range 50 {
			_ = p.check(t.Context(), "192.0.2.1:1", "bob", "secret guess", slog.New(slog.NewTextHandler(&out, nil)))
		}
		if lines := strings.Count(out.String(), "\n"); lines != 1 || !strings.Contains(out.String(), "192.0.2.1") || strings.Contains(out.String(), "secret guess") {
			t.Errorf("%s", out.String())
		}
	})
}
