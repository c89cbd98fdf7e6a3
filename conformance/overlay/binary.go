package overlay

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// binaryVariable names a built scn, so that tests need not build their own.
const binaryVariable = "SCN_BIN"

// Binary returns the path of an scn binary: that of the environment variable
// SCN_BIN, or one built into dir now.
func Binary(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv(binaryVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", binaryVariable, err)
		}
		return path, nil
	}
	path := filepath.Join(dir, "scn")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "scn.alt/scn/daemon/cmd/scn").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build scn: %w\n%s", err, out)
	}
	return path, nil
}
