package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every command that reads a broken mm2.properties exits with 2 and prints all errors, with key, value and line.
func TestAllErrorsOfMirrorMakerFilesArePrinted(t *testing.T) {
	t.Chdir("../../config") // the files refer to other files by relative paths
	paths, err := filepath.Glob("testdata/mm2/*.bad.properties")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		for line := range strings.Lines(string(data)) {
			if text, ok := strings.CutPrefix(line, "# want "); ok {
				want.WriteString(path + ":" + text)
			}
		}
		for _, command := range []string{"run", "check", "convert"} {
			began := time.Now()
			code, stdout, stderr := milena(t, command, "-c", path)
			if code != exitUsage || stdout != "" || stderr != want.String() {
				t.Errorf("%s %s: exit %d, stdout %q, stderr:\n%s", command, path, code, stdout, stderr)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s %s took %v", command, path, took)
			}
		}
	}
}

// check prints the same plan for an mm2.properties and for its conversion, and the notes of the former.
func TestConvertedFileHasTheSamePlan(t *testing.T) {
	address := startClusters(t)
	properties := file(t, fmt.Sprintf("clusters = a, b\na.bootstrap.servers = %s\nb.bootstrap.servers = %s\na->b.enabled = true\n"+
		"topics = seed.*\nreplication.factor = 1\ntasks.max = 4\n", address[0], address[1]))
	code, converted, stderr := milena(t, "convert", properties)
	if code != exitClean || !strings.Contains(converted, "MirrorMaker 2's default; milena's default is read_committed") {
		t.Fatalf("convert: exit %d, %s\n%s", code, stderr, converted)
	}
	yaml := file(t, converted)
	_, notes, _ := milena(t, "check", "-c", properties)
	if !strings.Contains(notes, "note: tasks.max (line 7): milena has no connectors") {
		t.Errorf("check prints no notes:\n%s", notes)
	}
	var plans []string
	for _, path := range []string{properties, yaml} {
		code, plan, stderr := milena(t, "check", "--json", "-c", path)
		if code != exitClean || !strings.Contains(plan, "a.seed-one") {
			t.Fatalf("check: exit %d, %s\n%s", code, stderr, plan)
		}
		plans = append(plans, plan)
	}
	if plans[0] != plans[1] {
		t.Errorf("the plans differ:\n%s\n%s", plans[0], plans[1])
	}
	code, same, stderr := milena(t, "convert", "-c", yaml)
	if code != exitClean || same != converted || !strings.Contains(stderr, "is a milena.yaml already") {
		t.Errorf("convert of YAML: exit %d, %s\n%s", code, stderr, same)
	}
}
