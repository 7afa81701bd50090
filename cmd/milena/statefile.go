package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/milena-kafka/milena/replicator/verify"
)

// stateFile keeps the progress of a verification in a file.
type stateFile struct{ path string }

// Load implements verify.Store.
func (s stateFile) Load(context.Context) (*verify.Document, error) {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var d verify.Document
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("the saved progress in %s cannot be read: %w; remove the file, or begin anew with --restart", s.path, err)
	}
	return &d, nil
}

// Save implements verify.Store. The file is written under another name, synced and renamed, so a crash leaves the old one or the new one.
func (s stateFile) Save(_ context.Context, d *verify.Document) error {
	document, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("keep the progress: %w", err)
	}
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
