import java.io.PrintStream;
import java.nio.file.Path;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/**
 * MiniHdfs DIRECTORY serves HDFS on ports that it chooses, until its standard input ends. It says the address of HDFS,
 * then that of WebHDFS, then READY.
 */
public class MiniHdfs {
    public static void main(String[] words) throws Exception {
        PrintStream said = System.out;
        System.setOut(System.err); // where Hadoop's log goes, too
        Configuration config = new Configuration();
        config.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, Path.of(words[0], "dfs").toString());
        try (MiniDFSCluster cluster = new MiniDFSCluster.Builder(config).numDataNodes(1).build()) {
            cluster.waitActive();
            said.println(cluster.getURI());
            said.println(cluster.getHttpUri(0));
            said.println("READY");
            while (System.in.read() >= 0) {
                continue;
            }
        }
    }
}
