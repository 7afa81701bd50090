package kafka

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version is the version of Apache Kafka, and Newest the newest one that is tested too.
const (
	Version = "4.3.1"
	Newest  = "4.4.0"
)

// ErrMissing means that Java or Maven is not installed.
var ErrMissing = errors.New("not found; install Java and Maven: apt-get install openjdk-17-jdk-headless maven")

//go:embed pom.xml
var pom []byte

//go:embed pom3.xml
var serverBefore4 []byte

//go:embed pom4.xml
var server4 []byte

//go:embed log4j2.properties
var log4j2 []byte

//go:embed log4j.properties
var log4j1 []byte

// Jars is a directory with the jars of a version of Kafka, and the files that start a broker without a format run.
type Jars struct {
	version   string
	dir       string
	classes   string // a directory before the jars on the class path
	zooKeeper bool   // the cluster keeps its metadata in ZooKeeper
}

// isBefore4 reports whether the jars have a server that logs with log4j 1 and knows ZooKeeper.
func (j Jars) isBefore4() bool { return !strings.HasPrefix(j.version, "4.") }

// scala is the newest version of Scala that the server of this version was built for.
func (j Jars) scala() string {
	if strings.HasPrefix(j.version, "1.") {
		return "2.12"
	}
	return "2.13"
}

// Resolve returns Kafka's jars in the user's cache directory. If they are not there, Maven downloads them, which can take minutes. It returns
// ErrMissing if Java or Maven is not installed.
func Resolve(ctx context.Context) (Jars, error) { return ResolveVersion(ctx, Version) }

// ResolveVersion is Resolve for a given version from 1.1.1 on. Only Version has tools and Connect.
func ResolveVersion(ctx context.Context, version string) (Jars, error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Jars{}, fmt.Errorf("%s: %w", tool, ErrMissing)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Jars{}, err
	}
	j := Jars{version: version, dir: filepath.Join(cache, "milena-kafka-"+version)}
	if _, err := os.Stat(j.dir); err == nil {
		return j, j.writeLogging()
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Jars{}, err
	}
	// The directory is complete before it is renamed: concurrent runs see all of it or nothing.
	tmp, err := os.MkdirTemp(cache, "milena-kafka-")
	if err != nil {
		return Jars{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := fill(ctx, Jars{version: version, dir: tmp}); err != nil {
		return Jars{}, err
	}
	if err := os.Rename(tmp, j.dir); err != nil {
		if _, statErr := os.Stat(j.dir); statErr != nil {
			return Jars{}, err
		}
	}
	return j, nil
}

// fill writes the jars and the log configuration.
func fill(ctx context.Context, j Jars) error {
	project := server4
	switch {
	case j.version == Version:
		project = pom
	case j.isBefore4():
		project = serverBefore4
	}
	if err := os.WriteFile(filepath.Join(j.dir, "pom.xml"), project, 0o644); err != nil {
		return err
	}
	if err := j.writeLogging(); err != nil {
		return err
	}
	mvn := exec.CommandContext(ctx, "mvn", "-B", "-q", "-Dkafka="+j.version, "-Dscala="+j.scala(), "-f", filepath.Join(j.dir, "pom.xml"),
		"dependency:copy-dependencies", "-DoutputDirectory="+filepath.Join(j.dir, "libs"))
	if out, err := mvn.CombinedOutput(); err != nil {
		return fmt.Errorf("download Kafka %s with Maven: %w\n%s", j.version, err, out)
	}
	return nil
}

// formatted has the files of a formatted node but meta.properties: the bootstrap checkpoint, which is in the metadata log since 4.4. They are the
// same for every node of this version, so clusters start without a format run, which would take more than a second per node.
func (j Jars) formatted() string { return filepath.Join(j.dir, "formatted") }

// format makes the files of a formatted node if there are none.
func (j Jars) format(ctx context.Context) error {
	if _, err := os.Stat(j.formatted()); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(j.dir, "format-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	data, properties := filepath.Join(tmp, "data"), filepath.Join(tmp, "format.properties")
	if err := os.WriteFile(properties, []byte("process.roles=broker,controller\nnode.id=1\n"+
		"controller.quorum.voters=1@127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n"+
		"listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\nlog.dirs="+data+"\n"), 0o644); err != nil {
		return err
	}
	format := j.command(ctx, "kafka.tools.StorageTool", "format", "-t", uuid(), "-c", properties)
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("format a node: %w\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(data, "meta.properties")); err != nil {
		return err
	}
	if err := os.Rename(data, j.formatted()); err != nil {
		if _, statErr := os.Stat(j.formatted()); statErr != nil { // otherwise another run was faster
			return err
		}
	}
	return nil
}

// writeLogging updates the log configuration, which an earlier version of this package may have written.
func (j Jars) writeLogging() error {
	path, text := filepath.Join(j.dir, "log4j2.properties"), log4j2
	if j.isBefore4() {
		path, text = filepath.Join(j.dir, "log4j.properties"), log4j1
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	tmp, err := os.CreateTemp(j.dir, "log4j-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // already renamed, unless something failed
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// command runs a Java class, or a Java source file, in a JVM that starts quickly.
func (j Jars) command(ctx context.Context, class string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "java", append(j.jvm("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"), append([]string{class}, args...)...)...)
}

func (j Jars) jvm(options ...string) []string {
	if j.isBefore4() {
		return append(options, "-XX:-UsePerfData", "-Dlog4j.configuration=file:"+filepath.Join(j.dir, "log4j.properties"), "-cp", j.classpath())
	}
	return append(options, "-XX:-UsePerfData", "-Dlog4j2.configurationFile="+filepath.Join(j.dir, "log4j2.properties"), "-Dlog4j2.disable.jmx=true",
		"-cp", j.classpath())
}

func (j Jars) classpath() string {
	libs := filepath.Join(j.dir, "libs", "*")
	if j.classes == "" {
		return libs
	}
	return j.classes + string(filepath.ListSeparator) + libs
}

// Compile compiles a Java source file against Kafka's jars into a directory.
func (j Jars) Compile(ctx context.Context, source, into string) error {
	javac := exec.CommandContext(ctx, "javac", "-cp", j.classpath(), "-d", into, source)
	if out, err := javac.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", source, err, out)
	}
	return nil
}

// Class is the command line that runs a class of Kafka with these JVM options.
func (j Jars) Class(options []string, class string, args ...string) []string {
	return append(append(append([]string{"java"}, j.jvm(options...)...), class), args...)
}
