// Package release_test builds the packages that .goreleaser.yaml describes, with the library that goreleaser uses for them, and installs one. It is a
// module of its own, so that milena does not depend on what only a release needs.
//
//	go test -count=1 ./...    because Go does not notice that files outside of a module have changed
package release_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the format deb
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // the format rpm
	"go.yaml.in/yaml/v3"
)

// commit is when the commit of the tests was made.
var commit = time.Unix(1_700_000_000, 0).UTC()

// tool is a program that not every machine has. With MILENA_TOOLS=require it must.
func tool(t *testing.T, name string) string {
	t.Helper()
	found, err := exec.LookPath(name)
	if err != nil && os.Getenv("MILENA_TOOLS") == "require" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return found
}

// run runs a command in a directory and returns what it prints.
func run(t *testing.T, dir string, command ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), command[0], command[1:]...)
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// tree is a copy of the repository in another directory, whose files are as old as the copy.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := run(t, "../..", "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // it is deleted and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// release is what was built of a copy of the repository.
type release struct {
	dir   string
	files map[string]string // paths by what they are: milena, deb, rpm, sbom
}

// description is the part of .goreleaser.yaml that describes the packages.
type description struct {
	Builds []struct {
		Flags   []string
		LDFlags []string
	}
	Packages []struct {
		nfpm.Overridables `yaml:",inline"`
		Name              string `yaml:"package_name"`
		Formats           []string
		Vendor            string
		Maintainer        string
		Description       string
		License           string
		Section           string
		Priority          string
		Bindir            string
		MTime             string `yaml:"mtime"`
	} `yaml:"nfpms"`
}

// build builds what a release has for this machine of a copy of the repository.
func build(t *testing.T, dir string) release {
	t.Helper()
	r := release{dir, map[string]string{}}
	run(t, r.dir, "deploy/release/prepare", "1700000000")
	var d description
	b, err := os.ReadFile(filepath.Join(r.dir, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	r.files["milena"] = filepath.Join(out, "milena")
	run(t, r.dir, slices.Concat([]string{"go", "build"}, d.Builds[0].Flags, []string{"-ldflags=" + strings.Join(d.Builds[0].LDFlags, " "), "-buildvcs=false", "-o", r.files["milena"], "./cmd/milena"})...)
	r.files["sbom"] = filepath.Join(out, "sbom")
	run(t, r.dir, "deploy/release/sbom", r.files["milena"], r.files["sbom"])
	t.Chdir(r.dir) // the description has relative paths
	for _, format := range d.Packages[0].Formats {
		r.files[format] = filepath.Join(out, "milena."+format)
		pack(t, &d, format, r.files)
	}
	return r
}

// pack makes a package of the description, as goreleaser does: it adds the binary, and its times are that of the commit.
func pack(t *testing.T, d *description, format string, all map[string]string) {
	t.Helper()
	p := d.Packages[0]
	if p.MTime != "{{ .CommitDate }}" {
		t.Errorf("the time of the packages is %q", p.MTime)
	}
	info := &nfpm.Info{
		Overridables: p.Overridables, Name: p.Name, Arch: runtime.GOARCH, Platform: "linux", Version: "1.0.0", Section: p.Section, Priority: p.Priority,
		Maintainer: p.Maintainer, Description: p.Description, Vendor: p.Vendor, License: p.License, MTime: commit,
	}
	info.Contents = slices.Clone(info.Contents)
	for i, c := range info.Contents { // making a package changes its contents
		own := *c
		info.Contents[i] = &own
	}
	info.Contents = append(info.Contents, &files.Content{Source: all["milena"], Destination: p.Bindir + "/milena", FileInfo: &files.ContentFileInfo{Mode: 0o755}})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		t.Fatal(err)
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := packager.Package(info, &b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(all[format], b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The same commit gives the same bytes in another directory and at another time.
func TestAReleaseIsReproducible(t *testing.T) {
	here, there := tree(t), tree(t) // both now: a build changes the working directory
	one, two := build(t, here), build(t, there)
	for name, path := range one.files {
		a, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(two.files[name])
		if err != nil {
			t.Fatal(err)
		}
		if len(a) == 0 || sha256.Sum256(a) != sha256.Sum256(b) {
			t.Errorf("%s of %d bytes differs from %s of %d bytes", path, len(a), two.files[name], len(b))
		}
	}
	if len(one.files) != 4 {
		t.Errorf("only %v was built", one.files)
	}
	t.Run("bill of materials", func(t *testing.T) { namesEveryModule(t, one) })
	t.Run("deb", func(t *testing.T) { installs(t, one) })
}

// namesEveryModule compares the bill of materials with what the Go tool wrote into the binary.
func namesEveryModule(t *testing.T, r release) {
	info, err := buildinfo.ReadFile(r.files["milena"])
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.files["sbom"])
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(b, &bill); err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for _, c := range bill.Components {
		listed[c.Name+" "+c.Version] = true
	}
	if len(info.Deps) < 20 {
		t.Errorf("the binary has %d modules", len(info.Deps))
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if !listed[m.Path+" "+m.Version] {
			t.Errorf("the bill of materials does not name %s %s", m.Path, m.Version)
		}
	}
	if !listed["std "+info.GoVersion] {
		t.Errorf("the bill of materials does not name the standard library of %s: %v", info.GoVersion, bill.Components)
	}
}

// installs installs the package into a directory, and uses what is there.
func installs(t *testing.T, r release) {
	dpkg, analyze := tool(t, "dpkg"), tool(t, "systemd-analyze")
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	install := []string{dpkg, "--root=" + root, "--log=/dev/null", "--force-not-root", "--force-script-chrootless", "--force-confold"}
	run(t, root, append(install, "--install", r.files["deb"])...)
	binary, file := filepath.Join(root, "usr/bin/milena"), filepath.Join(root, "etc/milena/milena.yaml")
	if got := run(t, root, binary, "version"); !strings.HasPrefix(got, "milena ") {
		t.Errorf("it prints %q", got)
	}
	for _, path := range []string{
		"usr/share/man/man1/milena-run.1.gz", "usr/share/bash-completion/completions/milena", "usr/share/zsh/vendor-completions/_milena", "usr/share/fish/vendor_completions.d/milena.fish",
		"usr/share/doc/milena/copyright", "usr/share/doc/milena/examples/notify-reload.conf",
	} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().Perm() != 0o644 || !info.ModTime().Equal(commit) {
			t.Errorf("%s: %v, %v", path, err, info)
		}
	}
	// The unit names the binary without a path, as systemd looks for it in /usr/local/bin and /usr/bin.
	for _, unit := range []string{"milena.service", "milena@.service"} {
		b, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system", unit))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if strings.Count(text, "\nExecStart=milena ") != 1 {
			t.Errorf("%s does not start milena", unit)
		}
		copied := filepath.Join(t.TempDir(), strings.Replace(unit, "@.", "@eu.", 1))
		if err := os.WriteFile(copied, []byte(strings.Replace(text, "ExecStart=milena ", "ExecStart="+binary+" ", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := run(t, root, analyze, "verify", "--man=no", copied); strings.Contains(out, "milena") {
			t.Errorf("systemd-analyze verify %s: %s", unit, out)
		}
	}
	changed := []byte("# mine\n")
	if err := os.WriteFile(file, changed, 0o644); err != nil { //nolint:gosec // the service reads it as its own user
		t.Fatal(err)
	}
	run(t, root, append(install, "--install", r.files["deb"])...)
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, changed) {
		t.Errorf("an upgrade makes the config %q, %v", b, err)
	}
	run(t, root, append(install, "--remove", "milena")...)
	if _, err := os.Stat(binary); !os.IsNotExist(err) {
		t.Errorf("the binary is still there: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the config went with the package: %v", err)
	}
	run(t, root, append(install, "--purge", "milena")...)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a purge leaves the config: %v", err)
	}
}

// manager is a system where systemd runs, with a systemctl that notes what it is called with.
func manager(t *testing.T) (root string, calls func() string) {
	t.Helper()
	root = t.TempDir()
	for _, dir := range []string{"run/systemd/system", "bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/systemctl"), []byte("#!/bin/sh\necho \"$*\" >>"+root+"/calls\n"), 0o755); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("DPKG_ROOT", root)
	t.Setenv("PATH", filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	return root, func() string {
		b, err := os.ReadFile(filepath.Join(root, "calls"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
}

// What a package does to services, for what dpkg and rpm call its scripts with.
func TestPackagesStartNothingAndRestartWhatRuns(t *testing.T) {
	const reload, restart = "daemon-reload\n", "try-restart milena.service milena@*.service\n"
	const stop = "disable --now milena.service\nstop milena@*.service\n"
	for _, test := range []struct {
		script string
		args   []string
		want   string
	}{
		{"postinstall.sh", []string{"configure", ""}, reload},
		{"postinstall.sh", []string{"configure"}, reload},
		{"postinstall.sh", []string{"configure", "1.0.0"}, reload + restart},
		{"postinstall.sh", []string{"1"}, reload},
		{"postinstall.sh", []string{"2"}, reload + restart},
		{"preremove.sh", []string{"remove"}, stop},
		{"preremove.sh", []string{"upgrade", "1.0.1"}, ""},
		{"preremove.sh", []string{"0"}, stop},
		{"preremove.sh", []string{"1"}, ""},
		{"postremove.sh", []string{"remove"}, reload},
		{"postremove.sh", []string{"0"}, reload},
	} {
		t.Run(test.script+" "+strings.Join(test.args, " "), func(t *testing.T) {
			_, calls := manager(t)
			run(t, ".", append([]string{"sh", test.script}, test.args...)...)
			if got := calls(); got != test.want {
				t.Errorf("it calls\n%swant\n%s", got, test.want)
			}
		})
	}
}

// Without systemd, as in a container, the scripts do nothing and do not fail.
func TestPackagesInstallWithoutSystemd(t *testing.T) {
	root, calls := manager(t)
	if err := os.RemoveAll(filepath.Join(root, "run/systemd")); err != nil {
		t.Fatal(err)
	}
	scripts, err := fs.Glob(os.DirFS("."), "*.sh")
	if err != nil || len(scripts) != 3 {
		t.Fatalf("%v: %v", scripts, err)
	}
	for _, script := range scripts {
		run(t, ".", "sh", script, "configure", "1.0.0")
	}
	if got := calls(); got != "" {
		t.Errorf("they call %s", got)
	}
}
