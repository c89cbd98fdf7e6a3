package daemon

import (
	"io"
	"log/slog"
)

// newLogger returns the daemon's logger and the level that SIGHUP may change.
func newLogger(w io.Writer, s LogSettings) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	if l, err := s.level(); err == nil {
		level.Set(l)
	}
	options := &slog.HandlerOptions{Level: level}
	if s.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}
