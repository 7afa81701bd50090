package recovery

import (
	"errors"
	"fmt"
	"strings"

	"github.com/milena-kafka/milena/replicator/client"
)

// misplaced are groups that are not where they continue. A sentence has each of them once, whatever the number of its partitions: with the first position that
// is wrong, and with what puts all of them right.
type misplaced struct {
	names []string
	of    map[string]*misplacedGroup
}

type misplacedGroup struct {
	first, cure string
	others      int
}

// add notes what is wrong with one position of a group. The cure may be empty.
func (m *misplaced) add(name, cure, format string, args ...any) {
	g, ok := m.of[name]
	if ok {
		g.others++
		return
	}
	if m.of == nil {
		m.of = make(map[string]*misplacedGroup)
	}
	m.names = append(m.names, name)
	m.of[name] = &misplacedGroup{first: fmt.Sprintf(format, args...), cure: cure}
}

// join adds what is noted in another one.
func (m *misplaced) join(other *misplaced) {
	for _, name := range other.names {
		g := other.of[name]
		m.add(name, g.cure, "%s", g.first)
		m.of[name].others += g.others
	}
}

// err is nil if all groups are where they continue.
func (m *misplaced) err() error {
	if len(m.names) == 0 {
		return nil
	}
	list := make([]string, len(m.names))
	for i, name := range m.names {
		g := m.of[name]
		list[i] = name + " " + g.first
		if g.others > 0 {
			list[i] += fmt.Sprintf(" (and %s like it)", counted(g.others, "position"))
		}
		if g.cure != "" {
			list[i] += ": " + g.cure
		}
	}
	text := strings.Join(list[:min(maxNamed, len(list))], "; ")
	if n := len(list) - maxNamed; n > 0 {
		text += fmt.Sprintf("; and %s more", counted(n, "group"))
	}
	return errors.New("groups are not where they continue: " + text)
}

// adopt is what lets a flow move a group that its own consumers or a person put where it is.
func adopt(c client.Clusters, group string) string {
	return fmt.Sprintf("milena groups adopt %s --flow %s --reason TEXT lets flow %s move it, or leave it out with --leave-groups", group, c.Flow.Name, c.Flow.Name)
}
