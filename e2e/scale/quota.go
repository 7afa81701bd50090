package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// quota is a cgroup that limits the CPU time of a process, and puts it before those of others.
type quota struct{ dir string }

// quotaPeriod is far below the kernel's default of 100 ms, so that a process with a small share does not stand still for long at a time.
const quotaPeriod = 20 * time.Millisecond

// newQuota limits a process to a share of a core, with cgroups of version 2, or else version 1. As the process is put before others, what runs beside
// the measurement does not take its share. With a share of 0 there is no limit, and less preference.
func newQuota(name string, pid int, share float64) (*quota, error) {
	const root = "/sys/fs/cgroup"
	period := quotaPeriod.Microseconds()
	runtime, weight := fmt.Sprint(int64(float64(period)*share)), int64(10000)
	if share == 0 {
		runtime, weight = "-1", 3000
	}
	q := &quota{dir: filepath.Join(root, "cpu", name)}
	files := []string{"cpu.cfs_period_us", fmt.Sprint(period), "cpu.cfs_quota_us", runtime, "cpu.shares", fmt.Sprint(weight * 1024 / 100)}
	if have, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil && strings.Contains(string(have), "cpu") {
		if share == 0 {
			runtime = "max"
		}
		q.dir, files = filepath.Join(root, name), []string{"cpu.max", fmt.Sprintf("%s %d", runtime, period), "cpu.weight", fmt.Sprint(weight)}
	}
	if err := os.Mkdir(q.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("limit CPU time: %w", err)
	}
	files = append(files, "cgroup.procs", fmt.Sprint(pid))
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(q.dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			q.remove()
			return nil, fmt.Errorf("limit CPU time: %w", err)
		}
	}
	return q, nil
}

// remove removes the cgroup, whose processes have ended.
func (q *quota) remove() {
	if q == nil {
		return
	}
	for range 100 {
		if err := os.Remove(q.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
