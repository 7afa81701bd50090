package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	configFile = "/etc/milena/milena.yaml"
	user       = "65532:65532" // a number, so that Kubernetes can verify runAsNonRoot
)

// about is what the binary says of itself, and the labels with it.
type about struct {
	version, revision string
}

// aboutBinary reads what the Go tool wrote into a binary.
func aboutBinary(binary []byte) (about, error) {
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return about{}, err
	}
	a := about{version: info.Main.Version}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			a.revision = s.Value
		}
	}
	return a, nil
}

// file is a file or, without content, a folder of the image.
type file struct {
	name    string
	mode    int64
	content []byte
}

// writeLayout writes an image for the platforms into a folder, and returns the digest of its index.
func writeLayout(ctx context.Context, source, dir, tag string, platforms []v1.Platform) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		image, err := buildImage(ctx, source, p)
		if err != nil {
			return v1.Hash{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &p}})
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("write %s: %w", dir, err)
	}
	tagged := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})
	if err := path.AppendIndex(index, tagged); err != nil {
		return v1.Hash{}, fmt.Errorf("write %s: %w", dir, err)
	}
	descriptor, err := partial.Descriptor(index)
	if err != nil {
		return v1.Hash{}, err
	}
	return descriptor.Digest, nil
}

// buildImage compiles milena for a platform and makes an image of it.
func buildImage(ctx context.Context, source string, platform v1.Platform) (v1.Image, error) {
	binary, err := compile(ctx, source, platform)
	if err != nil {
		return nil, err
	}
	about, err := aboutBinary(binary)
	if err != nil {
		return nil, err
	}
	layer, err := layerOf(files(binary))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.ConfigFile(image, config(about, platform)); err != nil {
		return nil, err
	}
	return mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{CreatedBy: "milena's deploy/image", Created: v1.Time{Time: time.Unix(0, 0).UTC()}},
	})
}

// compile builds the static binary as the Dockerfile does.
func compile(ctx context.Context, source string, platform v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "milena-image")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "milena")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, "./cmd/milena")
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture)
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build milena in %s for %s: %w\n%s", source, platform, err, said)
	}
	return os.ReadFile(out)
}

// files is what the image holds: the binary, and the certificate authorities that a tls section without ca_file trusts.
func files(binary []byte) []file {
	return []file{
		{name: "milena", mode: 0o755, content: binary},
		{name: "etc/", mode: 0o755},
		{name: "etc/milena/", mode: 0o755},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: authorities()},
	}
}

// authorities is Mozilla's list. Dates from which on browsers trust some of them no more cannot be said in such a file.
func authorities() []byte {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		all.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
	}
	return all.Bytes()
}

// layerOf packs files, owned by root and without a time.
func layerOf(all []file) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, f := range all {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if f.content == nil {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// config is what a container of the image does. The Dockerfile says the same.
func config(about about, platform v1.Platform) *v1.ConfigFile {
	labels := map[string]string{
		"org.opencontainers.image.title":         "milena",
		"org.opencontainers.image.description":   "Replicates Apache Kafka clusters",
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.source":        "https://github.com/milena-kafka/milena",
		"org.opencontainers.image.documentation": "https://github.com/milena-kafka/milena/blob/main/docs/operations.md#containers",
		"org.opencontainers.image.version":       about.version,
		"org.opencontainers.image.revision":      about.revision,
	}
	return &v1.ConfigFile{
		OS:           platform.OS,
		Architecture: platform.Architecture,
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		Config: v1.Config{
			User:         user,
			ExposedPorts: map[string]struct{}{"9644/tcp": {}},
			Entrypoint:   []string{"/milena"},
			Cmd:          []string{"run", "-c", configFile},
			WorkingDir:   "/",
			Labels:       labels,
			StopSignal:   "SIGTERM",
			// Not part of OCI's config: Docker writes and reads it there, others skip it.
			Healthcheck: &v1.HealthConfig{
				Test:        []string{"CMD", "/milena", "health", "-c", configFile},
				Interval:    10 * time.Second,
				Timeout:     5 * time.Second,
				StartPeriod: 30 * time.Second,
				Retries:     3,
			},
		},
	}
}
