package replicatortest

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// logged keeps what a flow logs.
type logged struct {
	also io.Writer

	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	return l.also.Write(b) //nolint:wrapcheck // as is
}

func (l *logged) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// UntilLogged waits until the log of the flow contains a text.
func (f *Flow) UntilLogged(text string) {
	f.t.Helper()
	Eventually(f.t, fmt.Sprintf("the flow logs %q", text), func() (bool, string) { return f.logged.contains(text), "" })
}

// LogLines returns the lines that the flow has logged.
func (f *Flow) LogLines() []string {
	f.logged.mu.Lock()
	defer f.logged.mu.Unlock()
	return strings.SplitAfter(strings.TrimSuffix(f.logged.text.String(), "\n"), "\n")
}
