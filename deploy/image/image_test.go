package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

const source = "../.."

// thisMachine is the platform whose binaries run here.
var thisMachine = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}

// copyOfSource copies what milena is built from to another folder, which is not a checkout.
func copyOfSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"cmd", "config", "offsets", "policy", "replicator"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(source, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(source, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents are the files of an image by their path, as a container sees them.
func contents(t *testing.T, image v1.Image) map[string]file {
	t.Helper()
	packed := mutate.Extract(image)
	defer func() { _ = packed.Close() }()
	all := map[string]file{}
	for r := tar.NewReader(packed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		f := file{name: strings.TrimSuffix(header.Name, "/"), mode: header.Mode}
		if header.Typeflag == tar.TypeReg {
			if f.content, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() != 0 {
			t.Errorf("%s belongs to %d:%d and is of %s", f.name, header.Uid, header.Gid, header.ModTime)
		}
		all[f.name] = f
	}
}

// The state of a checkout is part of the binary, so a copy without one shows that nothing else of a folder is.
func TestTwoFoldersGiveTheSameImage(t *testing.T) {
	t.Setenv("GOFLAGS", "-buildvcs=false")
	var digests []string
	for _, from := range []string{source, copyOfSource(t)} {
		dir := t.TempDir()
		var out, said bytes.Buffer
		if err := run(t.Context(), []string{"-source", from, "-o", dir, "-tag", "v1.2.3"}, &out, &said); err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		digests = append(digests, out.String())
		checkLayout(t, dir, strings.TrimSpace(out.String()))
	}
	if digests[0] != digests[1] {
		t.Errorf("the digests are %s and %s", digests[0], digests[1])
	}
}

// checkLayout reads a layout as a registry tool does: all digests and sizes are right, and each platform has a binary for its processor.
func checkLayout(t *testing.T, dir, digest string) {
	t.Helper()
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.Manifests) != 1 || listed.Manifests[0].Digest.String() != digest || listed.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1.2.3" {
		t.Fatalf("the layout lists %+v, want %s as v1.2.3", listed.Manifests, digest)
	}
	index, err := top.ImageIndex(listed.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIImageIndex {
		t.Errorf("the index is a %s", manifest.MediaType)
	}
	machines := map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		binary, err := elf.NewFile(bytes.NewReader(contents(t, image)["milena"].content))
		if err != nil {
			t.Fatal(err)
		}
		if want, known := machines[m.Platform.String()]; !known || binary.Machine != want {
			t.Errorf("%s has a binary for %s", m.Platform, binary.Machine)
		}
		if dynamic := binary.Section(".interp"); dynamic != nil {
			t.Errorf("the binary for %s is dynamically linked", m.Platform)
		}
		delete(machines, m.Platform.String())
	}
	if len(machines) > 0 {
		t.Errorf("the index lacks %v", slices.Collect(maps.Keys(machines)))
	}
}

func TestAuthoritiesAreReadable(t *testing.T) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities()) || strings.Count(string(authorities()), "BEGIN CERTIFICATE") < 100 {
		t.Error("the file has hardly a certificate")
	}
}

// stages parses the Dockerfile.
func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(source, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[1].BaseName != "scratch" {
		t.Fatalf("the Dockerfile has %d stages, the last of %s", len(all), all[len(all)-1].BaseName)
	}
	return all
}

// configOf is the config that the last stage of the Dockerfile gives.
func configOf(t *testing.T, stage instructions.Stage) v1.Config {
	t.Helper()
	c := v1.Config{Labels: map[string]string{}, ExposedPorts: map[string]struct{}{}}
	arguments := map[string]string{}
	for _, command := range stage.Commands {
		switch command := command.(type) {
		case *instructions.ArgCommand:
			for _, a := range command.Args {
				arguments[a.Key] = a.ValueString()
			}
		case *instructions.LabelCommand:
			for _, l := range command.Labels {
				value, _, err := shell.NewLex('\\').ProcessWord(strings.Trim(l.Value, `"`), shell.EnvsFromSlice(environment(arguments)))
				if err != nil {
					t.Fatal(err)
				}
				c.Labels[l.Key] = value
			}
		case *instructions.UserCommand:
			c.User = command.User
		case *instructions.WorkdirCommand:
			c.WorkingDir = command.Path
		case *instructions.ExposeCommand:
			for _, port := range command.Ports {
				c.ExposedPorts[port] = struct{}{}
			}
		case *instructions.StopSignalCommand:
			c.StopSignal = command.Signal
		case *instructions.EntrypointCommand:
			c.Entrypoint = command.CmdLine
		case *instructions.CmdCommand:
			c.Cmd = command.CmdLine
		case *instructions.HealthCheckCommand:
			h := command.Health
			c.Healthcheck = &v1.HealthConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries}
		case *instructions.CopyCommand:
			if command.From != "build" || !slices.Equal(command.SourcePaths, []string{"/out/root/"}) || command.DestPath != "/" {
				t.Errorf("the Dockerfile copies %v from %s to %s", command.SourcePaths, command.From, command.DestPath)
			}
		default:
			t.Errorf("this test does not know %s of the Dockerfile", command.Name())
		}
	}
	return c
}

func environment(of map[string]string) []string {
	var all []string
	for name, value := range of {
		all = append(all, name+"="+value)
	}
	return all
}

// The commands of the Dockerfile are run as Docker would run them, in folders of this test.
func TestDockerfileMakesTheSameImage(t *testing.T) {
	t.Setenv("GOFLAGS", "-buildvcs=false")
	image, err := buildImage(t.Context(), source, thisMachine)
	if err != nil {
		t.Fatal(err)
	}
	built := stages(t)
	out := t.TempDir()
	from := copyOfSource(t)
	for _, command := range built[0].Commands {
		run, is := command.(*instructions.RunCommand)
		if !is {
			continue
		}
		script := strings.ReplaceAll(strings.Join(run.CmdLine, " "), "/out/", out+"/")
		shell := exec.CommandContext(t.Context(), "sh", "-ec", script)
		shell.Dir = from
		if said, err := shell.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, said)
		}
	}
	made, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Config, configOf(t, built[1])); diff != "" {
		t.Errorf("the Dockerfile makes another image than this module (-module +Dockerfile):\n%s", diff)
	}
	compareFiles(t, contents(t, image), filepath.Join(out, "root"))
}

// compareFiles compares an image with a folder. Which authorities there are may differ: Debian's list is Mozilla's of another day.
func compareFiles(t *testing.T, image map[string]file, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, has := image[name]
		delete(image, name)
		if !has || entry.IsDir() != (f.content == nil) {
			t.Errorf("the Dockerfile makes %s, and the module %+v", name, f.mode)
			return nil
		}
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != fs.FileMode(f.mode) {
			t.Errorf("the Dockerfile makes %s with mode %o, and the module with %o (%v)", name, info.Mode().Perm(), f.mode, err)
		}
		if name == "milena" {
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, f.content) {
				t.Errorf("the binaries differ: %v", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(image) > 0 {
		t.Errorf("the Dockerfile does not make %v", slices.Sorted(maps.Keys(image)))
	}
}
