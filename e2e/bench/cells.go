package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/milena-kafka/milena/config"
)

// cellNames are the cells that run by default.
func cellNames() []string {
	return []string{
		"1k-8p", "4k-8p", "16k-8p", "64k-8p", "1m-8p", // batch sizes
		"1k-4p", "64k-1p", "64k-1000p", // partitions
		"16k-8p-src15", "16k-8p-src80", "16k-8p-dst15", "16k-8p-dst80", // delay
		"64k-1p-src15", "64k-1p-src80", "64k-1p-dst15", "64k-1p-dst80",
		"1k-8p-src80", "1k-8p-dst80", "1m-8p-src80", "1m-8p-dst80", "64k-1000p-src80", "64k-1000p-dst80",
		"64k-8p-src80-win100", "64k-8p-dst80-win100", // sockets as Kafka configures them
		"64k-8p-tls", "64k-8p-rf3", "64k-8p-old", "64k-8p-none", "64k-8p-none-100b", // other brokers, other records
	}
}

// extraNames are the cells in which more than throughput is measured by default, because that takes about a minute per replicator.
func extraNames() []string {
	return []string{"64k-8p", "64k-1000p", "16k-8p-src80", "16k-8p-dst80", "64k-8p-tls", "64k-8p-rf3"}
}

// The sides of a delay.
const (
	sourceSide = "source"
	targetSide = "target"
)

// dataset is what is written to a source.
type dataset struct {
	topics, partitions int // partitions of each topic
	record, batch      int // bytes of values, before compression
	codec              string
	old                bool // timestamps a month ago
	brokers            int  // per cluster, and the replication factor
}

// cell is one load in one environment. Its name says everything.
type cell struct {
	dataset
	name   string
	rtt    time.Duration
	side   string // of the delay
	window int    // KiB that a connection carries per round trip, 0 for any number
	tls    bool
}

// parseCell reads a name: batch size, partitions, and what differs from 1 KiB records with lz4 on plaintext, such as 16k-8p-src80.
func parseCell(name string) (cell, error) {
	c := cell{name: name, dataset: dataset{topics: 1, record: 1 << 10, codec: "lz4", brokers: 1}}
	patterns := []struct {
		pattern string
		set     func(n int, unit string)
	}{
		{`(\d+)(k|m)`, func(n int, unit string) { c.batch = n << map[string]int{"k": 10, "m": 20}[unit] }},
		{`(\d+)(p)`, func(n int, _ string) { c.partitions = n }},
		{`(\d+)(b)`, func(n int, _ string) { c.record = n }},
		{`rf(\d+)()`, func(n int, _ string) { c.brokers = n }},
		{`src(\d+)()`, func(n int, _ string) { c.rtt, c.side = time.Duration(n)*time.Millisecond, sourceSide }},
		{`win(\d+)()`, func(n int, _ string) { c.window = n }},
		{`dst(\d+)()`, func(n int, _ string) { c.rtt, c.side = time.Duration(n)*time.Millisecond, targetSide }},
	}
words:
	for word := range strings.SplitSeq(name, "-") {
		switch word {
		case "tls":
			c.tls = true
			continue
		case "old":
			c.old = true
			continue
		case "none", "gzip", "snappy", "zstd":
			c.codec = word
			continue
		}
		for _, p := range patterns {
			if m := regexp.MustCompile("^" + p.pattern + "$").FindStringSubmatch(word); m != nil {
				n, err := strconv.Atoi(m[1])
				if err != nil {
					return c, fmt.Errorf("scenario %s: %w", name, err)
				}
				p.set(n, m[2])
				continue words
			}
		}
		return c, fmt.Errorf("scenario %s: %q is no part of a name", name, word)
	}
	return c, c.check()
}

// check reports what cannot run, and splits many partitions into topics.
func (c *cell) check() error {
	switch {
	case c.batch == 0 || c.partitions == 0 || c.record == 0:
		return fmt.Errorf("scenario %s: a name needs a batch size and partitions, such as 16k-8p", c.name)
	case c.tls && c.rtt > 0:
		return fmt.Errorf("scenario %s: the TLS listeners have no proxy, so there is no delay", c.name)
	case c.window > 0 && c.rtt == 0:
		return fmt.Errorf("scenario %s: a connection is limited per round trip, so there must be one; add src or dst", c.name)
	case c.brokers < 1 || c.brokers > 3:
		return fmt.Errorf("scenario %s: rf1 to rf3 exist", c.name)
	}
	if c.partitions >= 100 && c.partitions%10 == 0 {
		c.topics, c.partitions = c.partitions/10, 10
	}
	return nil
}

// choose returns the cells that match comma-separated names or globs. A name without a wildcard need not be in the list.
func choose(patterns string) ([]cell, error) {
	if patterns == "" {
		patterns = "*"
	}
	var chosen []cell
	for pattern := range strings.SplitSeq(patterns, ",") {
		names := []string{pattern}
		if strings.ContainsAny(pattern, `*?[\`) {
			names = nil
			for _, name := range cellNames() {
				if ok, err := path.Match(pattern, name); err != nil {
					return nil, fmt.Errorf("scenario %s: %w", pattern, err)
				} else if ok {
					names = append(names, name)
				}
			}
			if names == nil {
				return nil, fmt.Errorf("no scenario matches %s; there are %s", pattern, strings.Join(cellNames(), ", "))
			}
		}
		for _, name := range names {
			if slices.ContainsFunc(chosen, func(c cell) bool { return c.name == name }) {
				continue
			}
			c, err := parseCell(name)
			if err != nil {
				return nil, err
			}
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}

// base is the cell without its delay.
func (c cell) base() cell {
	words := slices.DeleteFunc(strings.Split(c.name, "-"), func(word string) bool {
		return strings.HasPrefix(word, "src") || strings.HasPrefix(word, "dst") || strings.HasPrefix(word, "win")
	})
	c.name, c.rtt, c.side, c.window = strings.Join(words, "-"), 0, "", 0
	return c
}

// delayed returns the cells with this round-trip time instead of their own. Those that differed by the delay only become one.
func delayed(cells []cell, rtt time.Duration, side string) ([]cell, error) {
	words := map[string]string{sourceSide: "src", targetSide: "dst"}
	if words[side] == "" {
		return nil, fmt.Errorf("side %q; use %s or %s", side, sourceSide, targetSide)
	}
	var changed []cell
	for _, c := range cells {
		name := fmt.Sprintf("%s-%s%d", c.base().name, words[side], rtt.Milliseconds())
		if slices.ContainsFunc(changed, func(c cell) bool { return c.name == name }) {
			continue
		}
		c, err := parseCell(name)
		if err != nil {
			return nil, err
		}
		changed = append(changed, c)
	}
	return changed, nil
}

// id is the beginning of the names of the topics.
func (d dataset) id() string {
	id := fmt.Sprintf("%dk-%dp-%s-%db", d.batch>>10, d.topics*d.partitions, d.codec, d.record)
	if d.old {
		id += "-old"
	}
	return id
}

func (d dataset) topicNames() []string {
	var names []string
	for i := range d.topics {
		names = append(names, fmt.Sprintf("%s-%02d", d.id(), i))
	}
	return names
}

// pattern is a regular expression for the topics, and for those that are created later.
func (d dataset) pattern() string { return d.id() + "-[0-9]+" }

// size is how many bytes are copied. Small batches cost brokers and replicators much more time per byte.
func (d dataset) size() config.Bytes {
	switch {
	case d.batch < 4<<10:
		return 200e6
	case d.batch < 16<<10 || d.record < 512:
		return 500e6
	}
	return 1e9
}

// title describes the cell in the table.
func (c cell) title() string {
	size := func(n int) string {
		switch {
		case n%(1<<20) == 0:
			return fmt.Sprintf("%d MiB", n>>20)
		case n%(1<<10) == 0:
			return fmt.Sprintf("%d KiB", n>>10)
		}
		return fmt.Sprintf("%d B", n)
	}
	t := fmt.Sprintf("%s records, %s batches, %s, ", size(c.record), size(c.batch), c.codec)
	if c.topics > 1 {
		t += fmt.Sprintf("%d topics × ", c.topics)
	}
	t += fmt.Sprintf("%d partitions", c.partitions)
	if c.partitions == 1 {
		t = strings.TrimSuffix(t, "s")
	}
	if c.rtt > 0 {
		t += fmt.Sprintf(", %v to the %s", c.rtt, c.side)
	}
	if c.window > 0 {
		t += fmt.Sprintf(", %d KiB per connection and round trip", c.window)
	}
	if c.tls {
		t += ", TLS"
	}
	if c.brokers > 1 {
		t += fmt.Sprintf(", %d brokers", c.brokers)
	}
	if c.old {
		t += ", a month old"
	}
	return t
}
