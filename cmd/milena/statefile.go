package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateFile keeps the progress of a verification in a file.
type stateFile struct{ path string }

// Load implements verify.Store.
func (s stateFile) Load(context.Context) ([]byte, error) {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save implements verify.Store. The file is written under another name, synced and renamed, so a crash leaves the old one or the new one.
func (s stateFile) Save(_ context.Context, document []byte) error {
	f, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("keep the progress: %w", err)
	}
	_, err = f.Write(document)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep the progress: %w", err)
	}
	return nil
}

// Remove implements verify.Store.
func (s stateFile) Remove(context.Context) error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the progress: %w", err)
	}
	return nil
}
