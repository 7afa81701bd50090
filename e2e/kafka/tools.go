package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Tool runs a class of Kafka, or a Java source file, and returns its standard output.
func (j Jars) Tool(ctx context.Context, class string, args ...string) ([]byte, error) {
	var errs strings.Builder
	cmd := j.command(ctx, class, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s", class, err, errs.String())
	}
	return out, nil
}

// Dump counts what DumpLogSegments prints about the log files of a topic.
type Dump struct {
	Files, Batches, Records int
	// Invalid are the lines of batches with a wrong CRC.
	Invalid []string
}

var (
	batchLine  = regexp.MustCompile(`^baseOffset: .* isvalid: (true|false)`)
	recordLine = regexp.MustCompile(`^\| offset: `)
)

// DumpLog runs DumpLogSegments on the log files of a topic on this broker. It reads every record of every batch and checks CRCs.
func (b *Broker) DumpLog(ctx context.Context, topic string) (Dump, error) {
	var d Dump
	files, err := filepath.Glob(filepath.Join(b.DataDir(), topic+"-*", "*.log"))
	if err != nil {
		return d, err
	}
	if len(files) == 0 {
		return d, errors.New("no log files of topic " + topic)
	}
	d.Files = len(files)
	cmd := b.cluster.jars.command(ctx, "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--max-message-size", strconv.Itoa(64<<20), "--files", strings.Join(files, ","))
	err = eachLine(cmd, func(line string) {
		switch m := batchLine.FindStringSubmatch(line); {
		case m != nil:
			d.Batches++
			if m[1] != "true" {
				d.Invalid = append(d.Invalid, line)
			}
		case recordLine.MatchString(line):
			d.Records++
		}
	})
	return d, err
}

// Consumed is a fingerprint of what the console consumer printed. It does not depend on the order of lines.
type Consumed struct {
	Lines int
	Sum   uint64
}

// Consume lets Kafka's console consumer read n committed records of the topics that match include, with CRC checks. The fingerprint covers
// partition, key, value, timestamp and headers, but not offsets, which may differ in a copy. Fingerprints of the same seed are comparable.
func (c *Cluster) Consume(ctx context.Context, seed maphash.Seed, include string, n int) (Consumed, error) {
	args := []string{
		"--bootstrap-server", strings.Join(c.Addrs(), ","), "--include", include, "--from-beginning", "--max-messages", strconv.Itoa(n), "--timeout-ms", "20000",
		"--isolation-level", "read_committed", "--command-property", "check.crcs=true", "--command-property", "max.partition.fetch.bytes=20971520",
		"--command-property", "auto.offset.reset=earliest", "--command-property", "enable.auto.commit=false",
	}
	for _, p := range []string{"timestamp", "partition", "headers", "key", "value"} {
		args = append(args, "--formatter-property", "print."+p+"=true")
	}
	args = append(args, "--formatter-property", "null.literal=<null>", "--formatter-property", "key.separator=|")
	var r Consumed
	err := eachLine(c.jars.command(ctx, "org.apache.kafka.tools.consumer.ConsoleConsumer", args...), func(line string) {
		r.Lines++
		r.Sum += maphash.String(seed, line)
	})
	return r, err
}

// eachLine runs cmd and calls do for each line of its standard output.
func eachLine(cmd *exec.Cmd, do func(string)) error {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := bufio.NewReaderSize(out, 1<<20)
	for {
		line, readErr := r.ReadString('\n')
		if line != "" {
			do(strings.TrimSuffix(line, "\n"))
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, os.ErrClosed) {
			break
		}
		if readErr != nil {
			err = readErr
			break
		}
	}
	if waitErr := cmd.Wait(); waitErr != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), waitErr, errs.String())
	}
	return err
}
