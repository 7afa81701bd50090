package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run does what the command line asks for.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	f.SetOutput(stderr)
	layoutDir := f.String("o", "", "write the image into this folder, in the OCI layout")
	tar := f.String("tar", "", "write the image of this machine's processor into this file, for docker load")
	tag := f.String("tag", "latest", "the tag of the image in what is written")
	source := f.String("source", "../..", "the folder of milena's go.mod")
	if err := f.Parse(args); err != nil {
		return err
	}
	if (*layoutDir == "") == (*tar == "") || f.NArg() > 0 {
		return fmt.Errorf("name what to write: -o FOLDER for the OCI layout, or -tar FILE for docker load")
	}
	if *tar != "" {
		return writeTar(ctx, *source, *tar, *tag)
	}
	digest, err := writeLayout(ctx, *source, *layoutDir, *tag, platforms())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, digest)
	return err
}

// platforms are those that the image has.
func platforms() []v1.Platform {
	return []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
}

func writeTar(ctx context.Context, source, file, as string) error {
	image, err := buildImage(ctx, source, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return err
	}
	tag, err := name.NewTag("milena:" + as)
	if err != nil {
		return fmt.Errorf("-tag %s: %w", as, err)
	}
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
